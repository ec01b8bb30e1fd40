/*
 * A load generator for relays: pairs of devices that send payloads to each other through two servers.
 *
 * One thread, one epoll. Device a<i> connects to one port, b<i> to the next. Both ends of a pair live in this
 * process: what b<i> receives is checked against what a<i> sent, and timed by one clock. How payloads are
 * made and accounted for: payloads.c. What the servers speak: dialect_*.c.
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

#define PATIENCE (20 * SECOND) /* for a step of the opening */
#define DRAIN (20 * SECOND)    /* for payloads still on their way at the end, as long as any arrive */

static const struct dialect *const dialects[] = {&classic, &v1,    &plain, &socketio,
                                                 &mqtt0,   &mqtt1, &nats,  &centrifugo};
const struct dialect *dialect;

static struct histogram openings; /* from connecting until a device can send and receive */
static int ready_count, timer = -1;
static uint64_t last_news; /* when a device last became ready */
static uint64_t paced;     /* payloads that have been due, in open loop */

void ready(struct device *d) {
    d->state = READY;
    if (!d->was_ready) {
        ready_count++;
        last_news = now();
        record(&openings, last_news - d->since);
    }
    d->was_ready = true;
    if (d->owed) touch(d);
}

/* Owe what has become due since the last look. */
static void pace(void) {
    uint64_t ticks, due = (uint64_t)((double)(now() - began) * opt.rate / 1e9);
    if (read(timer, &ticks, sizeof ticks) < 0 || !sending) return;
    for (; paced < due; paced++) {
        struct device *d = sender(paced % (uint64_t)senders());
        d->owed++;
        touch(d);
    }
}

/* Connect all pairs, some at a time; return when each device can send and receive. */
static void open_pairs(void) {
    int opened = 0;
    last_news = now();
    while (ready_count < device_count) {
        for (; opened < opt.pairs && opened - ready_count / 2 < opt.opening; opened++) {
            connect_device(&devices[2 * opened]);
            connect_device(&devices[2 * opened + 1]);
        }
        turn(now() + SECOND / 10);
        if (now() - last_news > PATIENCE)
            fail("only %d of %d devices are ready, and nothing happens", ready_count, device_count);
    }
}

/* Let all that is due until then happen, and the one thing that breaks in between. */
static void go_on_until(uint64_t end) {
    static bool broken;
    uint64_t at = began + (uint64_t)(opt.at * 1e9);
    if ((opt.kill || opt.cut) && !broken && at < end) {
        while (turn(at)) {}
        broken = true;
        if (opt.kill && kill(opt.kill, SIGKILL)) fail("process %d is not there", opt.kill);
        for (int i = 1; opt.cut && i < device_count; i += 2) cut(&devices[i]);
    }
    while (turn(end)) {}
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
        watch_file(timer, pace);
    } else {
        for (int i = 0; i < senders(); i++) {
            sender((uint64_t)i)->owed = (uint64_t)opt.window;
            touch(sender((uint64_t)i));
        }
    }
}

/* Start to send; return with the length of the measuring window in ns. */
static uint64_t run(void) {
    bool busy = opt.idle <= 0;
    if (busy) start_sending();
    else began = now();
    go_on_until(began + (uint64_t)(opt.warmup * 1e9));
    begin_window();
    measuring = true;
    uint64_t start = now();
    go_on_until(start + (uint64_t)((busy ? opt.seconds : opt.idle) * 1e9));
    uint64_t length = now() - start;
    end_window(length);
    measuring = sending = false;
    return length;
}

/* Wait for what is on its way. What was not sent yet is sent only if its time has come. */
static void drain(void) {
    uint64_t deadline = now() + DRAIN;
    uint64_t quiet = (uint64_t)(opt.quiet * 1e9);
    bool broken = opt.kill || opt.cut;
    for (int i = 0; i < device_count && !broken; i++) devices[i].owed = 0;
    last_arrival = now();
    while (count_lost() && now() < last_arrival + quiet && turn(now() + SECOND / 100) && now() < deadline) {}
}

static bool report(uint64_t length) {
    bool busy = opt.idle <= 0;
    bool clean = !(account.lost || account.repeated || account.reordered || account.damaged);
    bool valid = !busy || (latencies.total && clean);
    printf("{\"valid\":%s,\"connections\":%d,", valid ? "true" : "false", device_count);
    print_histogram("opening_us", &openings);
    if (busy) {
        uint64_t sent = 0;
        for (int i = 0; i < device_count; i++) sent += devices[i].made;
        printf("\"payloads\":%" PRIu64 ",\"payloads_per_second\":%.1f,", latencies.total,
               (double)latencies.total * 1e9 / (double)length);
        print_histogram("latency_us", &latencies);
        if (opt.rate > 0) print_histogram("lateness_us", &lateness);
        printf("\"check\":{\"sent\":%" PRIu64 ",\"received\":%" PRIu64 ",\"lost\":%" PRIu64
               ",\"repeated\":%" PRIu64 ",\"reordered\":%" PRIu64 ",\"damaged\":%" PRIu64 "},",
               sent, account.received, account.lost, account.repeated, account.reordered, account.damaged);
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

int main(int count, char **words) {
    add_process("generator", getpid());
    parse(count, words);
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
