/* Measuring: time, latencies, CPU and memory of processes. */
#ifndef MEASURE_H
#define MEASURE_H

#include <stdint.h>
#include <sys/types.h>

#define SECOND 1000000000ull /* ns */

enum { PROCESSES = 16, SUB = 7, BUCKETS = (64 - SUB + 2) << (SUB - 1) };

/* Times in ns, with a relative error below 1 %. */
struct histogram {
    uint64_t counts[BUCKETS], total, max;
};

__attribute__((format(printf, 1, 2), noreturn)) void fail(const char *format, ...);

uint64_t now(void);

void record(struct histogram *h, uint64_t ns);

/* Measure another process. */
void add_process(const char *name, pid_t pid);

/* Begin and end the window over which CPU time is measured. */
void begin_window(void);
void end_window(uint64_t length);

/* Print members of a JSON object: percentiles, followed by a comma; CPU and memory by process. */
void print_histogram(const char *name, const struct histogram *h);
void print_window(uint64_t length, uint64_t payloads);

#endif
