/*
 * Load generator for relays: pairs of devices that send payloads to each other through two servers.
 *
 * One thread, one epoll instance. Device a<i> connects to one port, b<i> to the next. Both ends of a pair are in
 * this process, so what b<i> receives is checked against what a<i> sent, and timed by the same clock.
 * payloads.c generates and checks payloads, dialect_*.c speak the servers' protocols.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "frames.h"
#include "options.h"
#include "payloads.h"

#define OPENING_TIMEOUT (20 * SECOND) /* without another device becoming ready */
#define DRAIN_TIMEOUT (20 * SECOND)   /* for payloads in flight at the end */

static const struct dialect *const dialects[] = {&classic, &v1,    &plain, &socketio,
                                                 &mqtt0,   &mqtt1, &nats,  &centrifugo};
const struct dialect *dialect;

static struct histogram openings; /* from connecting until a device is ready */
static int ready_count, timer = -1;
static uint64_t last_ready; /* when a device last became ready */
static uint64_t scheduled;  /* payloads that have become due, in open loop */

void mark_ready(struct device *d) {
    d->state = READY;
    if (!d->was_ready) {
        ready_count++;
        last_ready = now();
        record(&openings, last_ready - d->connect_started);
    }
    d->was_ready = true;
    if (d->credit) mark_dirty(d);
}

/* Give credit for the payloads that have become due since the last call. */
static void on_timer(void) {
    uint64_t ticks, due = (uint64_t)((double)(now() - began) * opt.rate / 1e9);
    if (read(timer, &ticks, sizeof ticks) < 0 || !sending) return;
    for (; scheduled < due; scheduled++) {
        struct device *d = sender(scheduled % (uint64_t)senders());
        d->credit++;
        mark_dirty(d);
    }
}

/* Connect all pairs, --opening at a time; return when all devices are ready. */
static void open_pairs(void) {
    int opened = 0;
    last_ready = now();
    while (ready_count < device_count) {
        for (; opened < opt.pairs && opened - ready_count / 2 < opt.opening; opened++) {
            connect_device(&devices[2 * opened]);
            connect_device(&devices[2 * opened + 1]);
        }
        loop_once(now() + SECOND / 10);
        if (now() - last_ready > OPENING_TIMEOUT)
            fail("only %d of %d devices became ready", ready_count, device_count);
    }
}

/* Run the loop until `end`, and inject the fault of --kill or --cut when it is due. */
static void run_until(uint64_t end) {
    static bool injected;
    uint64_t at = began + (uint64_t)(opt.at * 1e9);
    if ((opt.kill || opt.cut) && !injected && at < end) {
        while (loop_once(at)) {}
        injected = true;
        if (opt.kill && kill(opt.kill, SIGKILL)) fail("no process %d", opt.kill);
        for (int i = 1; opt.cut && i < device_count; i += 2) cut_connection(&devices[i]);
    }
    while (loop_once(end)) {}
}

static void start_sending(void) {
    began = now();
    sending = true;
    if (opt.rate > 0) {
        long ns = (long)(1e9 / opt.rate);
        ns = ns < 50000 ? 50000 : ns > 999999999 ? 999999999 : ns;
        struct itimerspec interval = {{0, ns}, {0, ns}};
        timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        if (timer < 0 || timerfd_settime(timer, 0, &interval, NULL)) fail("timer: %s", strerror(errno));
        watch_file(timer, on_timer);
    } else {
        for (int i = 0; i < senders(); i++) {
            sender((uint64_t)i)->credit = (uint64_t)opt.window;
            mark_dirty(sender((uint64_t)i));
        }
    }
}

/* Apply the load; return the length of the measuring window in ns. */
static uint64_t run(void) {
    bool loaded = opt.idle <= 0;
    if (loaded) start_sending();
    else began = now();
    run_until(began + (uint64_t)(opt.warmup * 1e9));
    begin_window();
    measuring = true;
    uint64_t start = now();
    run_until(start + (uint64_t)((loaded ? opt.seconds : opt.idle) * 1e9));
    uint64_t length = now() - start;
    end_window(length);
    measuring = sending = false;
    return length;
}

/* Wait for the payloads in flight. Unless a fault was injected, unsent ones are discarded. */
static void drain(void) {
    uint64_t deadline = now() + DRAIN_TIMEOUT;
    uint64_t quiet = (uint64_t)(opt.quiet * 1e9);
    bool injected = opt.kill || opt.cut;
    for (int i = 0; i < device_count && !injected; i++) devices[i].credit = 0;
    last_arrival = now();
    while (count_lost() && now() < last_arrival + quiet && loop_once(now() + SECOND / 100) && now() < deadline) {}
}

static bool report(uint64_t length) {
    bool loaded = opt.idle <= 0;
    bool clean = !(check.lost || check.repeated || check.reordered || check.damaged);
    bool valid = !loaded || (latencies.total && clean);
    printf("{\"valid\":%s,\"connections\":%d,", valid ? "true" : "false", device_count);
    print_histogram("opening_us", &openings);
    if (loaded) {
        uint64_t sent = 0;
        for (int i = 0; i < device_count; i++) sent += devices[i].sent_total;
        printf("\"payloads\":%" PRIu64 ",\"payloads_per_second\":%.1f,", latencies.total,
               (double)latencies.total * 1e9 / (double)length);
        print_histogram("latency_us", &latencies);
        if (opt.rate > 0) print_histogram("lateness_us", &lateness);
        printf("\"check\":{\"sent\":%" PRIu64 ",\"received\":%" PRIu64 ",\"lost\":%" PRIu64
               ",\"repeated\":%" PRIu64 ",\"reordered\":%" PRIu64 ",\"damaged\":%" PRIu64 "},",
               sent, check.received, check.lost, check.repeated, check.reordered, check.damaged);
        printf("\"reconnects\":%" PRIu64 ",", reconnects);
    }
    print_window(length, latencies.total);
    printf("}\n");
    return valid;
}

static void choose_dialect(void) {
    for (size_t i = 0; i < sizeof dialects / sizeof *dialects; i++)
        if (!strcmp(opt.dialect, dialects[i]->name)) dialect = dialects[i];
    if (!dialect) fail("no such dialect: %s", opt.dialect);
}

int main(int argc, char **argv) {
    add_process("generator", getpid());
    parse(argc, argv);
    choose_dialect();
    struct rlimit files;
    if (!getrlimit(RLIMIT_NOFILE, &files)) files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    device_count = 2 * opt.pairs;
    devices = calloc((size_t)device_count, sizeof *devices);
    if (!devices) fail("out of memory");
    for (int i = 0; i < device_count; i++) {
        struct device *d = &devices[i];
        d->pair = i / 2;
        d->side = i % 2;
        d->peer = &devices[i ^ 1];
        sprintf(d->name, "%c%d", "ab"[d->side], d->pair);
    }
    prepare_payloads();
    prepare_frames(opt.kill || opt.cut);
    open_pairs();
    uint64_t length = run();
    drain();
    bool valid = report(length);
    fflush(stdout);
    close_all();
    return valid ? 0 : 1;
}
