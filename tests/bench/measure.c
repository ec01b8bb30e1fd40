#define _GNU_SOURCE
#include "measure.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct process {
    char name[32];
    pid_t pid;
    clockid_t clock;
    uint64_t cpu;    /* ns, within the window */
    long rss_before; /* KiB, before the first connection */
    long rss;        /* KiB, at the end of the window */
};

static struct process processes[PROCESSES];
static int process_count;
static uint64_t machine_cpu; /* ns over all cores, within the window */
static double other_cores;   /* cores used by processes not measured here, within the window */

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static uint64_t read_clock(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t)) fail("a measured process has ended");
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

uint64_t now(void) { return read_clock(CLOCK_MONOTONIC); }

void record(struct histogram *h, uint64_t ns) {
    int shift = ns >> SUB ? 63 - __builtin_clzll(ns) - SUB + 1 : 0;
    /* one bucket per ns below 2^SUB, above that 2^(SUB-1) buckets per power of two */
    h->counts[((uint64_t)shift << (SUB - 1)) + (ns >> shift)]++;
    h->total++;
    if (ns > h->max) h->max = ns;
}

static double percentile_us(const struct histogram *h, double share) {
    uint64_t rank = (uint64_t)(share * (double)h->total), before = 0;
    for (uint64_t i = 0; i < BUCKETS; i++) {
        before += h->counts[i];
        if (before > rank) {
            uint64_t shift = i >> SUB ? (i >> (SUB - 1)) - 1 : 0;
            uint64_t low = (i - (shift << (SUB - 1))) << shift;
            return ((double)low + (double)((1ull << shift) - 1) / 2) / 1e3;
        }
    }
    return (double)h->max / 1e3;
}

static long rss(pid_t pid) {
    char path[64];
    long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%*d %ld", &pages) != 1) fail("no process %d", (int)pid);
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* CPU time of the whole machine in ns, without interrupts: those of the loopback belong to no process. */
static uint64_t read_machine_cpu(void) {
    unsigned long long user, nice, system;
    FILE *file = fopen("/proc/stat", "r");
    if (!file || fscanf(file, "cpu %llu %llu %llu", &user, &nice, &system) != 3) fail("cannot read /proc/stat");
    fclose(file);
    return (user + nice + system) * (SECOND / (uint64_t)sysconf(_SC_CLK_TCK));
}

void add_process(const char *name, pid_t pid) {
    if (process_count == PROCESSES) fail("at most %d processes can be measured", PROCESSES - 1);
    struct process *p = &processes[process_count++];
    snprintf(p->name, sizeof p->name, "%s", name);
    p->pid = pid;
    if (clock_getcpuclockid(pid, &p->clock)) fail("no process %d", (int)pid);
    p->rss_before = rss(pid);
}

void begin_window(void) {
    machine_cpu = read_machine_cpu();
    for (struct process *p = processes; p < processes + process_count; p++) p->cpu = read_clock(p->clock);
}

void end_window(uint64_t length) {
    uint64_t measured = 0;
    machine_cpu = read_machine_cpu() - machine_cpu;
    for (struct process *p = processes; p < processes + process_count; p++) {
        measured += p->cpu = read_clock(p->clock) - p->cpu;
        p->rss = rss(p->pid);
    }
    other_cores = machine_cpu > measured ? (double)(machine_cpu - measured) / (double)length : 0;
}

void print_histogram(const char *name, const struct histogram *h) {
    printf("\"%s\":{\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f},", name, percentile_us(h, .5),
           percentile_us(h, .99), percentile_us(h, .999), (double)h->max / 1e3);
}

void print_window(uint64_t length, uint64_t payloads) {
    printf("\"seconds\":%.3f,\"other_cores\":%.3f,\"processes\":{", (double)length / 1e9, other_cores);
    for (struct process *p = processes; p < processes + process_count; p++) {
        printf("%s\"%s\":{\"cores\":%.4f,\"rss_before_kib\":%ld,\"rss_kib\":%ld", p == processes ? "" : ",",
               p->name, (double)p->cpu / (double)length, p->rss_before, p->rss);
        if (payloads) printf(",\"cpu_us\":%.3f", (double)p->cpu / 1e3 / (double)payloads);
        printf("}");
    }
    printf("}");
}
