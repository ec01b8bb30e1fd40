/*
 * A load generator for the relay: pairs of devices that send payloads to each other through two edges.
 *
 * One thread, one epoll. Device a<i> connects to the first port, b<i> to the second; both carry the tag
 * <i>, so that exactly these two match. Both ends of a pair live in this process: what b<i> receives is
 * checked against what a<i> sent, and timed by one clock.
 *
 * A payload is ASCII text of a fixed size: its number (8 hex digits), the time it was due (16 hex digits,
 * ns), then filler that depends on its number. The receiver accounts for every payload: a number that is
 * skipped is a gap, one seen before a repeat, other bytes are damage, and what has not come a while after
 * the last was sent is missing. Any of these makes the result invalid.
 *
 * Closed loop: each sender keeps a window of payloads in flight; one that arrives frees its place. Open
 * loop: payloads are due at a fixed total rate, whether earlier ones arrived or not, and latency counts
 * from when a payload was due: a stall is charged to all that had to wait behind it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "measure.h"
#include "options.h"

enum {
    INBOX = 256 * 1024,  /* bytes read at once */
    OUTBOX = 256 * 1024, /* unsent bytes at which a connection takes no more */
    OPENING = 32,        /* pairs that connect at a time */
    FILLER_PERIOD = 64,
};
#define PATIENCE (20 * SECOND) /* for a step of the opening */
#define DRAIN (5 * SECOND)     /* for payloads still on their way at the end */

enum state { ABSENT, UPGRADING, CONNECTED, WAITING, MATCHED };

static struct device {
    int fd, pair, side;
    enum state state;
    struct device *peer;
    char head[32]; /* of each payload heard: "device <peer> says: " */
    size_t head_length;
    uint64_t sent, received; /* payloads */
    uint64_t owed;           /* payloads that may be sent now */
    uint8_t *out;            /* frames not written yet: out[out_from .. out_to) */
    size_t out_from, out_to, out_capacity;
    uint8_t *rest; /* the part of a frame that has arrived */
    size_t rest_length;
    bool dirty;   /* in the list of this turn */
    bool blocked; /* waits for room in the socket */
} *devices;

static struct device **dirty, **before; /* devices with something to send; see turn */
static int dirty_count, device_count, opened, matched;
static int poller, timer = -1;
static bool measuring, sending;
static uint64_t began; /* when sending began */
static uint64_t paced; /* payloads that have been due, in open loop */
static uint8_t inbox[INBOX + MAX_SIZE + 256];
static char filler[FILLER_PERIOD + MAX_SIZE];
static struct histogram latencies; /* from when a payload was due to when it was read */
static struct histogram lateness;  /* from when it was due to when it was written: this process' own fault */
static struct { uint64_t gaps, repeats, damaged, received; } seen;
static uint64_t last_news; /* when a device last got further in its opening */

/* -- small things */

static void *enough(void *memory, size_t size) {
    if (!(memory = realloc(memory, size))) fail("out of memory");
    return memory;
}

static const char *name(const struct device *d) {
    static char names[2][16]; /* one for each side: a sentence may name both */
    snprintf(names[d->side], sizeof names[0], "%c%d", "ab"[d->side], d->pair);
    return names[d->side];
}

/* -- bytes out */

static void touch(struct device *d) {
    if (!d->dirty) {
        d->dirty = true;
        dirty[dirty_count++] = d;
    }
}

static void watch(struct device *d, bool for_room) {
    struct epoll_event event = {.events = EPOLLIN | (for_room ? EPOLLOUT : 0), .data.ptr = d};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, d->fd, &event)) fail("epoll_ctl: %s", strerror(errno));
    d->blocked = for_room;
}

static uint8_t *room(struct device *d, size_t size) {
    if (d->out_to + size > d->out_capacity) {
        d->out_capacity = 2 * (d->out_to + size);
        d->out = enough(d->out, d->out_capacity);
    }
    uint8_t *place = d->out + d->out_to;
    d->out_to += size;
    return place;
}

/* Clients mask what they send (RFC 6455, 5.3). Any key is right; servers cannot tell ours from random. */
static const uint8_t KEY[4] = {0x37, 0xfa, 0x21, 0x3d};

/* Add a frame with `size` bytes of payload; give the place of the payload, to be filled and masked. */
static uint8_t *frame(struct device *d, int opcode, size_t size) {
    uint8_t *p = room(d, size + (size < 126 ? 6 : 8));
    *p++ = (uint8_t)(0x80 | opcode);
    if (size < 126) {
        *p++ = (uint8_t)(0x80 | size);
    } else {
        *p++ = 0x80 | 126;
        *p++ = (uint8_t)(size >> 8);
        *p++ = (uint8_t)size;
    }
    memcpy(p, KEY, 4);
    return p + 4;
}

static void mask(uint8_t *p, size_t size) {
    for (size_t i = 0; i < size; i++) p[i] ^= KEY[i & 3];
}

static void control(struct device *d, int opcode, const uint8_t *payload, size_t size) {
    uint8_t *p = frame(d, opcode, size);
    memcpy(p, payload, size);
    mask(p, size);
    touch(d);
}

static void write_hex(uint8_t *p, int digits, uint64_t value) {
    for (int i = digits; i--; value >>= 4) p[i] = (uint8_t)"0123456789abcdef"[value & 15];
}

static void payload(struct device *d, uint64_t due) {
    uint8_t *p = frame(d, 1, (size_t)opt.size);
    write_hex(p, NUMBER, d->sent);
    write_hex(p + NUMBER, TIME, due);
    memcpy(p + STAMP, filler + d->sent % FILLER_PERIOD, (size_t)opt.size - STAMP);
    mask(p, (size_t)opt.size);
    d->sent++;
}

static int senders(void) { return opt.both_ways ? device_count : opt.pairs; }
static struct device *sender(uint64_t turn) { return &devices[opt.both_ways ? turn : 2 * turn]; }

/* When the next payload of this device is due, in open loop: the senders take turns. */
static uint64_t due_time(const struct device *d) {
    int turn = opt.both_ways ? 2 * d->pair + d->side : d->pair;
    double index = (double)d->sent * senders() + turn;
    return began + (uint64_t)((index + 1) * 1e9 / opt.rate);
}

/* Send what is owed, all in one write. */
static void flush(struct device *d) {
    d->dirty = false;
    if (d->blocked) return;
    uint64_t time = d->owed ? now() : 0;
    if (d->out_from) {
        memmove(d->out, d->out + d->out_from, d->out_to -= d->out_from);
        d->out_from = 0;
    }
    while (d->owed && d->out_to < OUTBOX) {
        uint64_t due = opt.rate > 0 ? due_time(d) : time;
        if (measuring) record(&lateness, time > due ? time - due : 0);
        payload(d, due);
        d->owed--;
    }
    while (d->out_from < d->out_to) {
        ssize_t n = write(d->fd, d->out + d->out_from, d->out_to - d->out_from);
        if (n < 0 && errno == EAGAIN) {
            watch(d, true);
            return;
        }
        if (n < 0) fail("%s cannot write: %s", name(d), strerror(errno));
        d->out_from += (size_t)n;
    }
    d->out_from = d->out_to = 0;
    if (d->owed) touch(d);
}

/* -- frames in */

static bool read_hex(const uint8_t *p, int digits, uint64_t *value) {
    *value = 0;
    for (int i = 0; i < digits; i++) {
        unsigned digit = p[i] <= '9' ? p[i] - (unsigned)'0' : p[i] - (unsigned)'a' + 10;
        if (digit > 15) return false;
        *value = *value << 4 | digit;
    }
    return true;
}

static void hear_payload(struct device *d, const uint8_t *p, size_t size, uint64_t time) {
    uint64_t number, due;
    struct device *from = d->peer;
    const uint8_t *body = p + d->head_length;
    seen.received++;
    if (size != d->head_length + (size_t)opt.size || memcmp(p, d->head, d->head_length) ||
        !read_hex(body, NUMBER, &number) || !read_hex(body + NUMBER, TIME, &due) || due > time ||
        number >= from->sent ||
        memcmp(body + STAMP, filler + number % FILLER_PERIOD, (size_t)opt.size - STAMP)) {
        seen.damaged++;
        number = d->received; /* it stands for the one that was expected */
        due = time;
    }
    if (number < d->received) {
        seen.repeats++;
        return;
    }
    seen.gaps += number - d->received;
    d->received = number + 1;
    if (measuring) record(&latencies, time - due);
    if (sending && opt.rate <= 0) {
        from->owed++;
        touch(from);
    }
}

static void hear_sentence(struct device *d, const uint8_t *p, size_t size) {
    char wanted[64];
    if (d->state == CONNECTED) {
        snprintf(wanted, sizeof wanted, "Connected and handled by ");
        if (size > strlen(wanted) && !memcmp(p, wanted, strlen(wanted))) {
            d->state = WAITING;
            last_news = now();
            return;
        }
    } else {
        snprintf(wanted, sizeof wanted, "I matched with device '%s'!", name(d->peer));
        if (size == strlen(wanted) && !memcmp(p, wanted, size)) {
            d->state = MATCHED;
            matched++;
            last_news = now();
            return;
        }
    }
    fail("%s heard '%.*s' where '%s' was expected", name(d), (int)size, (const char *)p, wanted);
}

static void hear(struct device *d, uint8_t first, const uint8_t *p, size_t size, uint64_t time) {
    int opcode = first & 15;
    if (opcode == 9) {
        control(d, 10, p, size);
    } else if (opcode == 8) {
        int code = size >= 2 ? p[0] << 8 | p[1] : 1005;
        fail("the edge closed the connection of %s: %d %.*s", name(d), code, (int)(size > 2 ? size - 2 : 0),
             (const char *)p + 2);
    } else if (first == 0x81) {
        if (d->state == MATCHED) hear_payload(d, p, size, time);
        else hear_sentence(d, p, size);
    } else if (opcode != 10) {
        fail("%s heard a frame that begins with 0x%02x, not a whole text", name(d), first);
    }
}

/* Take the whole frames of `size` bytes; give the number of bytes taken. */
static size_t take_frames(struct device *d, const uint8_t *data, size_t size, uint64_t time) {
    size_t at = 0;
    while (size - at >= 2) {
        const uint8_t *p = data + at;
        size_t length = p[1], head = 2;
        if (length == 126) {
            if (size - at < 4) break;
            length = (size_t)p[2] << 8 | p[3];
            head = 4;
        } else if (length > 126) {
            fail("%s heard a frame that is masked, or longer than any that was sent", name(d));
        }
        if (size - at < head + length) break;
        hear(d, p[0], p + head, length, time);
        at += head + length;
    }
    return at;
}

/* Take the answer to the handshake; give the number of bytes taken, 0 while it is not complete. */
static size_t take_answer(struct device *d, const uint8_t *data, size_t size) {
    static const char accept[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; /* RFC 6455, 1.3 */
    const uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end) return 0;
    if (size < 12 || memcmp(data, "HTTP/1.1 101", 12) || !memmem(data, size, accept, strlen(accept)))
        fail("%s was not let in: %.*s", name(d), (int)size, (const char *)data);
    d->state = CONNECTED;
    return (size_t)(end - data) + 4;
}

static void receive(struct device *d) {
    if (d->rest_length) memcpy(inbox, d->rest, d->rest_length);
    ssize_t n = read(d->fd, inbox + d->rest_length, INBOX);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) fail("the edge dropped the connection of %s", name(d));
    size_t size = d->rest_length + (size_t)n, taken = 0;
    if (d->state == UPGRADING) taken = take_answer(d, inbox, size);
    if (d->state != UPGRADING) taken += take_frames(d, inbox + taken, size - taken, now());
    d->rest_length = size - taken;
    if (d->rest_length > sizeof inbox - INBOX) fail("%s hears an endless frame", name(d));
    if (d->rest_length) {
        d->rest = enough(d->rest, d->rest_length);
        memcpy(d->rest, inbox + taken, d->rest_length);
    }
}

/* -- the course of things */

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

/* One turn of the loop: all that has come in, then one write for each device that has something to say.
   Give whether `until` has not come yet. */
static bool turn(uint64_t until) {
    struct epoll_event events[256];
    uint64_t time = now();
    if (time >= until) return false;
    int ready = epoll_wait(poller, events, 256, dirty_count ? 0 : (int)((until - time) / 1000000) + 1);
    if (ready < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < ready; i++) {
        struct device *d = events[i].data.ptr;
        if (!d) pace();
        if (d && events[i].events & ~(uint32_t)EPOLLOUT) receive(d);
        if (d && events[i].events & EPOLLOUT) {
            watch(d, false);
            touch(d);
        }
    }
    struct device **these = dirty;
    int count = dirty_count;
    dirty = before;
    before = these;
    dirty_count = 0;
    for (int i = 0; i < count; i++) flush(these[i]);
    return true;
}

static void connect_device(struct device *d) {
    int yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.ports[d->side])};
    if (inet_pton(AF_INET, opt.host, &address.sin_addr) != 1) fail("%s is no IPv4 address", opt.host);
    if ((d->fd = socket(AF_INET, SOCK_STREAM, 0)) < 0) fail("socket: %s", strerror(errno));
    if (connect(d->fd, (struct sockaddr *)&address, sizeof address))
        fail("nobody answers at %s:%d: %s", opt.host, opt.ports[d->side], strerror(errno));
    setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    fcntl(d->fd, F_SETFL, O_NONBLOCK);
    d->state = UPGRADING;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = d};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, d->fd, &event)) fail("epoll_ctl: %s", strerror(errno));

    char request[512];
    int size = snprintf(request, sizeof request,
                        "GET /device/connect?id=%s&app=%s&lat=52.37&lon=4.89&tag=%d HTTP/1.1\r\n"
                        "Host: %s:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                        name(d), opt.app, d->pair, opt.host, opt.ports[d->side]);
    memcpy(room(d, (size_t)size), request, (size_t)size);
    touch(d);
}

/* Connect all pairs, some at a time; return when each device has heard of its match. */
static void open_pairs(void) {
    last_news = now();
    while (matched < device_count) {
        for (; opened < opt.pairs && opened - matched / 2 < OPENING; opened++) {
            connect_device(&devices[2 * opened]);
            connect_device(&devices[2 * opened + 1]);
        }
        turn(now() + SECOND / 10);
        if (now() - last_news > PATIENCE)
            fail("only %d of %d devices are matched, and nothing happens", matched, device_count);
    }
}

/* Start to send; return with the length of the measuring window in ns. */
static uint64_t run(void) {
    bool busy = opt.idle <= 0;
    began = now();
    sending = busy;
    if (busy && opt.rate > 0) {
        long ns = (long)(1e9 / opt.rate);
        ns = ns < 50000 ? 50000 : ns > 999999999 ? 999999999 : ns;
        struct itimerspec interval = {{0, ns}, {0, ns}};
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
        timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        if (timer < 0 || timerfd_settime(timer, 0, &interval, NULL) ||
            epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event))
            fail("timer: %s", strerror(errno));
    } else if (busy) {
        for (int i = 0; i < senders(); i++) {
            sender((uint64_t)i)->owed = (uint64_t)opt.window;
            touch(sender((uint64_t)i));
        }
    }
    while (turn(began + (uint64_t)(opt.warmup * 1e9))) {}
    begin_window();
    measuring = true;
    uint64_t start = now();
    while (turn(start + (uint64_t)((busy ? opt.seconds : opt.idle) * 1e9))) {}
    uint64_t length = now() - start;
    end_window(length);
    measuring = sending = false;
    return length;
}

/* Wait for what is on its way; give how many payloads have not come. */
static uint64_t drain(void) {
    uint64_t missing, deadline = now() + DRAIN;
    for (int i = 0; i < device_count; i++) devices[i].owed = 0;
    do {
        missing = 0;
        for (int i = 0; i < device_count; i++) missing += devices[i].sent - devices[i].peer->received;
    } while (missing && turn(now() + SECOND / 100 < deadline ? now() + SECOND / 100 : deadline));
    return missing;
}

/* Say goodbye and wait, not for ever, until the edge has heard it. */
static void close_all(void) {
    uint8_t code[2] = {1000 >> 8, 1000 & 255};
    uint64_t deadline = now() + 3 * SECOND;
    for (int i = 0; i < device_count; i++) {
        control(&devices[i], 8, code, sizeof code);
        flush(&devices[i]);
    }
    for (int i = 0; i < device_count; i++) {
        struct pollfd fd = {.fd = devices[i].fd, .events = POLLIN};
        while (now() < deadline && poll(&fd, 1, 100) >= 0)
            if (fd.revents && read(fd.fd, inbox, sizeof inbox) <= 0) break;
    }
}

static bool report(uint64_t length, uint64_t missing) {
    bool busy = opt.idle <= 0;
    bool valid = !busy || (latencies.total && !(seen.gaps || seen.repeats || seen.damaged || missing));
    printf("{\"valid\":%s,\"connections\":%d,", valid ? "true" : "false", device_count);
    if (busy) {
        uint64_t sent = 0;
        for (int i = 0; i < device_count; i++) sent += devices[i].sent;
        printf("\"payloads\":%" PRIu64 ",\"payloads_per_second\":%.1f,", latencies.total,
               (double)latencies.total * 1e9 / (double)length);
        print_histogram("latency_us", &latencies);
        if (opt.rate > 0) print_histogram("lateness_us", &lateness);
        printf("\"check\":{\"sent\":%" PRIu64 ",\"received\":%" PRIu64 ",\"gaps\":%" PRIu64
               ",\"repeats\":%" PRIu64 ",\"damaged\":%" PRIu64 ",\"missing\":%" PRIu64 "},",
               sent, seen.received, seen.gaps, seen.repeats, seen.damaged, missing);
    }
    print_window(length, latencies.total);
    printf("}\n");
    return valid;
}

int main(int count, char **words) {
    add_process("generator", getpid());
    parse(count, words);
    struct rlimit files;
    if (!getrlimit(RLIMIT_NOFILE, &files)) files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    for (size_t i = 0; i < sizeof filler; i++) filler[i] = (char)('!' + i % FILLER_PERIOD);
    device_count = 2 * opt.pairs;
    devices = calloc((size_t)device_count, sizeof *devices);
    dirty = calloc((size_t)device_count, sizeof *dirty);
    before = calloc((size_t)device_count, sizeof *before);
    poller = epoll_create1(0);
    if (!devices || !dirty || !before || poller < 0) fail("cannot begin: %s", strerror(errno));
    for (int i = 0; i < device_count; i++) {
        struct device *d = &devices[i];
        d->pair = i / 2;
        d->side = i % 2;
        d->peer = &devices[i ^ 1];
        d->head_length = (size_t)sprintf(d->head, "device %c%d says: ", "ba"[d->side], d->pair);
    }
    open_pairs();
    uint64_t length = run();
    uint64_t missing = drain();
    bool valid = report(length, missing);
    fflush(stdout);
    close_all();
    return valid ? 0 : 1;
}
