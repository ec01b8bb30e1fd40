#define _GNU_SOURCE
#include "frames.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "options.h"
#include "payloads.h"

enum { INBOX = 256 * 1024 /* bytes read at once */, LONGEST = 8 << 20 /* bytes of a frame */ };
#define AWAY (SECOND / 2)   /* how long a device stays away whose connection was cut */
#define AGAIN (SECOND / 20) /* between two attempts to connect */
#define LOOK (SECOND / 100) /* between two looks at devices that wait */

struct device *devices;
int device_count;
uint64_t reconnects, last_arrival;

static struct device **dirty, **before; /* devices with something to send; see turn */
static struct device **waiting;         /* devices that will acknowledge soon */
static int dirty_count, waiting_count, absent, poller;
static uint64_t next_look; /* at those that wait */
static bool reconnecting;
static void (*file_ready)(void);
static uint8_t inbox[INBOX + LONGEST];

void *enough(void *memory, size_t size) {
    if (!(memory = realloc(memory, size))) fail("out of memory");
    return memory;
}

void prepare_frames(bool reconnect) {
    reconnecting = reconnect;
    signal(SIGPIPE, SIG_IGN);
    dirty = calloc((size_t)device_count, sizeof *dirty);
    before = calloc((size_t)device_count, sizeof *before);
    waiting = calloc((size_t)device_count, sizeof *waiting);
    poller = epoll_create1(0);
    if (!dirty || !before || !waiting || poller < 0) fail("cannot begin: %s", strerror(errno));
}

void watch_file(int fd, void (*what)(void)) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    file_ready = what;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl: %s", strerror(errno));
}

/* -- out */

void touch(struct device *d) {
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

size_t unsent(const struct device *d) { return d->out_to - d->out_from; }

/* Clients mask what they send (RFC 6455, 5.3). Any key will do. */
static const uint8_t KEY[8] = {0x37, 0xfa, 0x21, 0x3d, 0x37, 0xfa, 0x21, 0x3d};

uint8_t *frame(struct device *d, int opcode, size_t size) {
    uint8_t *p = room(d, size + (size < 126 ? 6 : size < 65536 ? 8 : 14));
    *p++ = (uint8_t)(0x80 | opcode);
    if (size < 126) {
        *p++ = (uint8_t)(0x80 | size);
    } else {
        int bytes = size < 65536 ? 2 : 8;
        *p++ = bytes == 2 ? 0x80 | 126 : 0x80 | 127;
        while (bytes--) *p++ = (uint8_t)(size >> 8 * bytes);
    }
    memcpy(p, KEY, 4);
    return p + 4;
}

void mask(uint8_t *p, size_t size) {
    uint64_t key, word;
    memcpy(&key, KEY, sizeof key);
    for (; size >= sizeof word; p += sizeof word, size -= sizeof word) {
        memcpy(&word, p, sizeof word);
        word ^= key;
        memcpy(p, &word, sizeof word);
    }
    for (size_t i = 0; i < size; i++) p[i] ^= KEY[i & 3];
}

static void write_frame(struct device *d, int opcode, const void *what, size_t size) {
    uint8_t *p = frame(d, opcode, size);
    if (size) memcpy(p, what, size);
    mask(p, size);
    touch(d);
}

void write_message(struct device *d, const void *what, size_t size) { write_frame(d, dialect->opcode, what, size); }

void write_text_message(struct device *d, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (size >= (int)sizeof text) fail("message too long");
    write_frame(d, TEXT, text, (size_t)size);
}

static void lose(struct device *d, const char *why, uint64_t pause) {
    if (!reconnecting) fail("the connection of %s was lost: %s", d->name, why);
    close(d->fd);
    d->state = ABSENT;
    d->out_from = d->out_to = d->rest_length = d->part_length = d->frame_left = 0;
    d->blocked = false;
    d->since = now() + pause;
    absent++;
}

void cut(struct device *d) {
    if (d->state > ABSENT) lose(d, "it was cut", AWAY);
}

/* Send what is owed, all in one write. */
static void flush(struct device *d) {
    if (d->unacked && dialect->acknowledge && d->state == READY && !dialect->acknowledge(d) && !d->waiting) {
        d->waiting = true;
        waiting[waiting_count++] = d;
    }
    d->dirty = false;
    if (d->blocked || d->state == ABSENT) return;
    if (d->out_from) {
        memmove(d->out, d->out + d->out_from, d->out_to -= d->out_from);
        d->out_from = 0;
    }
    if (d->owed && d->state == READY) send_owed(d);
    while (d->out_from < d->out_to) {
        ssize_t n = write(d->fd, d->out + d->out_from, d->out_to - d->out_from);
        if (n < 0 && errno == EAGAIN) {
            watch(d, true);
            return;
        }
        if (n < 0) {
            lose(d, strerror(errno), AGAIN);
            return;
        }
        d->out_from += (size_t)n;
    }
    d->out_from = d->out_to = 0;
    if (d->owed && d->state == READY) touch(d);
}

/* -- in */

bool begins(const uint8_t *p, size_t size, const char *with) {
    size_t length = strlen(with);
    return size >= length && !memcmp(p, with, length);
}

void unexpected(const struct device *d, const uint8_t *p, size_t size, const char *wanted) {
    fail("%s received '%.*s', expected '%s'", d->name, (int)(size < 200 ? size : 200),
         (const char *)p, wanted);
}

/* Hear a control frame. */
static void on_control(struct device *d, int opcode, const uint8_t *p, size_t size) {
    if (opcode == PING) {
        write_frame(d, PONG, p, size);
    } else if (opcode == CLOSE) {
        char why[160];
        int code = size >= 2 ? p[0] << 8 | p[1] : 1005;
        snprintf(why, sizeof why, "closed by the server, %d %.*s", code, (int)(size > 2 ? size - 2 : 0),
                 (const char *)p + 2);
        lose(d, why, AGAIN);
    } else if (opcode != PONG) {
        fail("%s received a frame of an unknown kind, %d", d->name, opcode);
    }
}

/* Take bytes of a stream, whole or not. */
static void take_stream(struct device *d, int opcode, const uint8_t *data, size_t size, uint64_t time) {
    if (d->part_length) {
        d->part = enough(d->part, d->part_length + size);
        memcpy(d->part + d->part_length, data, size);
        d->part_length += size;
        size_t taken = dialect->on_message(d, opcode, d->part, d->part_length, time);
        if (d->state == ABSENT) return;
        memmove(d->part, d->part + taken, d->part_length -= taken);
    } else {
        size_t taken = dialect->on_message(d, opcode, data, size, time);
        if (d->state == ABSENT || taken == size) return;
        d->part = enough(d->part, d->part_length = size - taken);
        memcpy(d->part, data + taken, size - taken);
    }
    if (d->part_length > INBOX) fail("%s receives an endless message", d->name);
}

/* Take the frames that are whole, and all of a stream; give the number of bytes taken. */
static size_t take_frames(struct device *d, const uint8_t *data, size_t size, uint64_t time) {
    size_t at = 0;
    while (d->state != ABSENT) {
        if (d->frame_left) {
            size_t n = size - at < d->frame_left ? size - at : d->frame_left;
            if (!n) break;
            d->frame_left -= n;
            take_stream(d, dialect->opcode, data + at, n, time);
            at += n;
            continue;
        }
        if (size - at < 2) break;
        const uint8_t *p = data + at;
        int opcode = p[0] & 15;
        size_t length = p[1], head = length < 126 ? 2 : length == 126 ? 4 : 10;
        if (length > 127) fail("%s received a masked frame", d->name);
        if (size - at < head) break;
        if (head > 2) {
            length = 0;
            for (size_t i = 2; i < head; i++) length = length << 8 | p[i];
        }
        if (dialect->stream && opcode < CLOSE) {
            d->frame_left = length;
            at += head;
            continue;
        }
        if (size - at < head + length) break;
        if (opcode >= CLOSE) on_control(d, opcode, p + head, length);
        else if (p[0] & 0x80 && opcode) dialect->on_message(d, opcode, p + head, length, time);
        else fail("%s received a frame that begins with 0x%02x, not a whole message", d->name, p[0]);
        at += head + length;
    }
    return at;
}

/* Take the answer to the handshake; give the number of bytes taken, 0 while it is not complete. */
static size_t take_answer(struct device *d, const uint8_t *data, size_t size) {
    static const char accept[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; /* RFC 6455, 1.3 */
    const uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end) return 0;
    if (!begins(data, size, "HTTP/1.1 101") || !memmem(data, size, accept, strlen(accept)))
        fail("%s was not let in: %.*s", d->name, (int)size, (const char *)data);
    d->state = OPENING;
    dialect->opened(d);
    return (size_t)(end - data) + 4;
}

static void receive(struct device *d) {
    if (d->rest_length) memcpy(inbox, d->rest, d->rest_length);
    ssize_t n = read(d->fd, inbox + d->rest_length, INBOX);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        lose(d, n ? strerror(errno) : "dropped by the server", AGAIN);
        return;
    }
    uint64_t time = last_arrival = now();
    size_t size = d->rest_length + (size_t)n, taken = 0;
    if (d->state == UPGRADING) taken = take_answer(d, inbox, size);
    if (d->state != UPGRADING) taken += take_frames(d, inbox + taken, size - taken, time);
    if (d->state == ABSENT) return;
    if (d->unacked && dialect->acknowledge) touch(d);
    d->rest_length = size - taken;
    if (d->rest_length > LONGEST) fail("%s receives an endless frame", d->name);
    if (d->rest_length) {
        d->rest = enough(d->rest, d->rest_length);
        memcpy(d->rest, inbox + taken, d->rest_length);
    }
}

/* -- connections */

/* Connect; give whether somebody answered. */
static bool reach(struct device *d, int port) {
    int yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, opt.host, &address.sin_addr) != 1) fail("%s is no IPv4 address", opt.host);
    if ((d->fd = socket(AF_INET, SOCK_STREAM, 0)) < 0) fail("socket: %s", strerror(errno));
    if (connect(d->fd, (struct sockaddr *)&address, sizeof address)) {
        close(d->fd);
        return false;
    }
    setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    fcntl(d->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = d};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, d->fd, &event)) fail("epoll_ctl: %s", strerror(errno));
    return true;
}

static bool try_to_connect(struct device *d) {
    char path[256], request[640];
    int port = opt.ports[2 * (d->pair % (opt.port_count / 2)) + d->side];
    if (!reach(d, port)) return false;
    d->state = UPGRADING;
    dialect->prepare(d, path, sizeof path);
    const char *subprotocol = dialect->subprotocol;
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: %s:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                        "%s%s%sSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                        path, opt.host, port, subprotocol ? "Sec-WebSocket-Protocol: " : "",
                        subprotocol ? subprotocol : "", subprotocol ? "\r\n" : "");
    memcpy(room(d, (size_t)size), request, (size_t)size);
    touch(d);
    return true;
}

void connect_device(struct device *d) {
    d->since = now();
    if (!try_to_connect(d)) fail("nobody answers at %s: %s", opt.host, strerror(errno));
}

static void bring_back(uint64_t time) {
    for (struct device *d = devices; absent && d < devices + device_count; d++) {
        if (d->state != ABSENT || d->since > time) continue;
        d->since = time + AGAIN;
        if (!try_to_connect(d)) continue;
        reconnects++;
        absent--;
    }
}

bool turn(uint64_t until) {
    struct epoll_event events[256];
    uint64_t time = now();
    if (time >= until) return false;
    if (absent) bring_back(time);
    if (waiting_count && time > next_look) {
        next_look = time + LOOK;
        for (; waiting_count; waiting_count--) {
            waiting[waiting_count - 1]->waiting = false;
            touch(waiting[waiting_count - 1]);
        }
    }
    uint64_t end = (absent || waiting_count) && until > time + LOOK ? time + LOOK : until;
    int wait = dirty_count ? 0 : (int)((end - time) / 1000000) + 1;
    int ready = epoll_wait(poller, events, 256, wait);
    if (ready < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < ready; i++) {
        struct device *d = events[i].data.ptr;
        if (!d) file_ready();
        if (d && d->state != ABSENT && events[i].events & ~(uint32_t)EPOLLOUT) receive(d);
        if (d && d->state != ABSENT && events[i].events & EPOLLOUT) {
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

void close_all(void) {
    uint8_t code[2] = {1000 >> 8, 1000 & 255};
    uint64_t deadline = now() + 3 * SECOND;
    reconnecting = true;
    for (struct device *d = devices; d < devices + device_count; d++) {
        if (d->state <= ABSENT) continue;
        write_frame(d, CLOSE, code, sizeof code);
        flush(d);
    }
    for (struct device *d = devices; d < devices + device_count; d++) {
        if (d->state <= ABSENT) continue;
        struct pollfd fd = {.fd = d->fd, .events = POLLIN};
        while (now() < deadline && poll(&fd, 1, 100) >= 0)
            if (fd.revents && read(fd.fd, inbox, sizeof inbox) <= 0) break;
    }
}
