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

enum { READ_SIZE = 256 * 1024 /* bytes read at once */, MAX_FRAME = 8 << 20 /* bytes of a frame */ };
#define CUT_PAUSE (SECOND / 2)    /* until a device reconnects after --cut */
#define RETRY_PAUSE (SECOND / 20) /* between two attempts to connect */
#define TICK (SECOND / 100)       /* between two checks of devices that must acknowledge or reconnect */

struct device *devices;
int device_count;
uint64_t reconnects, last_arrival;

static struct device **dirty, **flushing; /* devices with something to send; swapped by loop_once */
static struct device **ack_pending;       /* devices that have received payloads and will acknowledge them soon */
static int dirty_count, ack_pending_count, disconnected_count, poller;
static uint64_t next_ack_check;
static bool reconnecting;
static void (*file_ready)(void);
static uint8_t inbox[READ_SIZE + MAX_FRAME];

void *xrealloc(void *memory, size_t size) {
    if (!(memory = realloc(memory, size))) fail("out of memory");
    return memory;
}

void prepare_frames(bool reconnect) {
    reconnecting = reconnect;
    signal(SIGPIPE, SIG_IGN);
    dirty = calloc((size_t)device_count, sizeof *dirty);
    flushing = calloc((size_t)device_count, sizeof *flushing);
    ack_pending = calloc((size_t)device_count, sizeof *ack_pending);
    poller = epoll_create1(0);
    if (!dirty || !flushing || !ack_pending || poller < 0) fail("cannot set up epoll: %s", strerror(errno));
}

void watch_file(int fd, void (*callback)(void)) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    file_ready = callback;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl: %s", strerror(errno));
}

/* -- out */

void mark_dirty(struct device *d) {
    if (!d->dirty) {
        d->dirty = true;
        dirty[dirty_count++] = d;
    }
}

static void watch_socket(struct device *d, bool for_writing) {
    struct epoll_event event = {.events = EPOLLIN | (for_writing ? EPOLLOUT : 0), .data.ptr = d};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, d->fd, &event)) fail("epoll_ctl: %s", strerror(errno));
    d->blocked = for_writing;
}

static uint8_t *reserve(struct device *d, size_t size) {
    if (d->out_to + size > d->out_capacity) {
        d->out_capacity = 2 * (d->out_to + size);
        d->out = xrealloc(d->out, d->out_capacity);
    }
    uint8_t *start = d->out + d->out_to;
    d->out_to += size;
    return start;
}

size_t unsent_bytes(const struct device *d) { return d->out_to - d->out_from; }

/* Clients mask what they send (RFC 6455, section 5.3); any key will do. */
static const uint8_t MASKING_KEY[8] = {0x37, 0xfa, 0x21, 0x3d, 0x37, 0xfa, 0x21, 0x3d};

uint8_t *begin_frame(struct device *d, int opcode, size_t size) {
    uint8_t *p = reserve(d, size + (size < 126 ? 6 : size < 65536 ? 8 : 14));
    *p++ = (uint8_t)(0x80 | opcode);
    if (size < 126) {
        *p++ = (uint8_t)(0x80 | size);
    } else {
        int bytes = size < 65536 ? 2 : 8;
        *p++ = bytes == 2 ? 0x80 | 126 : 0x80 | 127;
        while (bytes--) *p++ = (uint8_t)(size >> 8 * bytes);
    }
    memcpy(p, MASKING_KEY, 4);
    return p + 4;
}

void mask(uint8_t *p, size_t size) {
    uint64_t key, word;
    memcpy(&key, MASKING_KEY, sizeof key);
    for (; size >= sizeof word; p += sizeof word, size -= sizeof word) {
        memcpy(&word, p, sizeof word);
        word ^= key;
        memcpy(p, &word, sizeof word);
    }
    for (size_t i = 0; i < size; i++) p[i] ^= MASKING_KEY[i & 3];
}

static void write_frame(struct device *d, int opcode, const void *payload, size_t size) {
    uint8_t *p = begin_frame(d, opcode, size);
    if (size) memcpy(p, payload, size);
    mask(p, size);
    mark_dirty(d);
}

void write_message(struct device *d, const void *message, size_t size) {
    write_frame(d, dialect->opcode, message, size);
}

void write_text_message(struct device *d, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (size >= (int)sizeof text) fail("message too long");
    write_frame(d, TEXT, text, (size_t)size);
}

static void connection_lost(struct device *d, const char *reason, uint64_t pause) {
    if (!reconnecting) fail("the connection of %s was lost: %s", d->name, reason);
    close(d->fd);
    d->state = DISCONNECTED;
    d->out_from = d->out_to = d->unparsed_length = d->stream_length = d->frame_left = 0;
    d->blocked = false;
    d->retry_at = now() + pause;
    disconnected_count++;
}

void cut_connection(struct device *d) {
    if (d->state > DISCONNECTED) connection_lost(d, "cut by --cut", CUT_PAUSE);
}

/* Write everything that this device may send, in one system call if possible. */
static void flush(struct device *d) {
    if (d->unacked && dialect->acknowledge && d->state == READY && !dialect->acknowledge(d) && !d->ack_pending) {
        d->ack_pending = true;
        ack_pending[ack_pending_count++] = d;
    }
    d->dirty = false;
    if (d->blocked || d->state == DISCONNECTED) return;
    if (d->out_from) {
        memmove(d->out, d->out + d->out_from, d->out_to -= d->out_from);
        d->out_from = 0;
    }
    if (d->credit && d->state == READY) spend_credit(d);
    while (d->out_from < d->out_to) {
        ssize_t n = write(d->fd, d->out + d->out_from, d->out_to - d->out_from);
        if (n < 0 && errno == EAGAIN) {
            watch_socket(d, true);
            return;
        }
        if (n < 0) {
            connection_lost(d, strerror(errno), RETRY_PAUSE);
            return;
        }
        d->out_from += (size_t)n;
    }
    d->out_from = d->out_to = 0;
    if (d->credit && d->state == READY) mark_dirty(d);
}

/* -- in */

bool starts_with(const uint8_t *p, size_t size, const char *prefix) {
    size_t length = strlen(prefix);
    return size >= length && !memcmp(p, prefix, length);
}

void unexpected(const struct device *d, const uint8_t *p, size_t size, const char *expected) {
    fail("%s received '%.*s', expected '%s'", d->name, (int)(size < 200 ? size : 200),
         (const char *)p, expected);
}

static void on_control(struct device *d, int opcode, const uint8_t *p, size_t size) {
    if (opcode == PING) {
        write_frame(d, PONG, p, size);
    } else if (opcode == CLOSE) {
        char reason[160];
        int code = size >= 2 ? p[0] << 8 | p[1] : 1005;
        snprintf(reason, sizeof reason, "closed by the server, %d %.*s", code, (int)(size > 2 ? size - 2 : 0),
                 (const char *)p + 2);
        connection_lost(d, reason, RETRY_PAUSE);
    } else if (opcode != PONG) {
        fail("%s received a frame with the unknown opcode %d", d->name, opcode);
    }
}

/* Pass bytes of a stream to the dialect; keep an incomplete message for the next call. */
static void on_stream(struct device *d, int opcode, const uint8_t *data, size_t size, uint64_t time) {
    if (d->stream_length) {
        d->stream = xrealloc(d->stream, d->stream_length + size);
        memcpy(d->stream + d->stream_length, data, size);
        d->stream_length += size;
        size_t consumed = dialect->on_message(d, opcode, d->stream, d->stream_length, time);
        if (d->state == DISCONNECTED) return;
        memmove(d->stream, d->stream + consumed, d->stream_length -= consumed);
    } else {
        size_t consumed = dialect->on_message(d, opcode, data, size, time);
        if (d->state == DISCONNECTED || consumed == size) return;
        d->stream = xrealloc(d->stream, d->stream_length = size - consumed);
        memcpy(d->stream, data + consumed, size - consumed);
    }
    if (d->stream_length > READ_SIZE) fail("%s received the beginning of a message that does not end", d->name);
}

/* Handle all complete frames, and in a stream dialect all bytes; return the number of bytes consumed. */
static size_t parse_frames(struct device *d, const uint8_t *data, size_t size, uint64_t time) {
    size_t at = 0;
    while (d->state != DISCONNECTED) {
        if (d->frame_left) {
            size_t n = size - at < d->frame_left ? size - at : d->frame_left;
            if (!n) break;
            d->frame_left -= n;
            on_stream(d, dialect->opcode, data + at, n, time);
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
        else fail("%s received a frame that begins with 0x%02x, not an unfragmented message", d->name, p[0]);
        at += head + length;
    }
    return at;
}

/* Check the response to the handshake; return the number of bytes consumed, 0 while it is incomplete. */
static size_t parse_handshake(struct device *d, const uint8_t *data, size_t size) {
    static const char accept[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; /* RFC 6455, section 1.3 */
    const uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end) return 0;
    if (!starts_with(data, size, "HTTP/1.1 101") || !memmem(data, size, accept, strlen(accept)))
        fail("the handshake of %s was rejected: %.*s", d->name, (int)size, (const char *)data);
    d->state = OPENING;
    dialect->on_open(d);
    return (size_t)(end - data) + 4;
}

static void receive(struct device *d) {
    if (d->unparsed_length) memcpy(inbox, d->unparsed, d->unparsed_length);
    ssize_t n = read(d->fd, inbox + d->unparsed_length, READ_SIZE);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        connection_lost(d, n ? strerror(errno) : "dropped by the server", RETRY_PAUSE);
        return;
    }
    uint64_t time = last_arrival = now();
    size_t size = d->unparsed_length + (size_t)n, consumed = 0;
    if (d->state == UPGRADING) consumed = parse_handshake(d, inbox, size);
    if (d->state != UPGRADING) consumed += parse_frames(d, inbox + consumed, size - consumed, time);
    if (d->state == DISCONNECTED) return;
    if (d->unacked && dialect->acknowledge) mark_dirty(d);
    d->unparsed_length = size - consumed;
    if (d->unparsed_length > MAX_FRAME) fail("%s received the beginning of a frame that is too long", d->name);
    if (d->unparsed_length) {
        d->unparsed = xrealloc(d->unparsed, d->unparsed_length);
        memcpy(d->unparsed, inbox + consumed, d->unparsed_length);
    }
}

/* -- connections */

/* Connect; return false if nothing listens there. */
static bool open_socket(struct device *d, int port) {
    int yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, opt.host, &address.sin_addr) != 1) fail("%s is not an IPv4 address", opt.host);
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

static bool try_connect(struct device *d) {
    char path[256], request[640];
    int port = opt.ports[2 * (d->pair % (opt.port_count / 2)) + d->side];
    if (!open_socket(d, port)) return false;
    d->state = UPGRADING;
    dialect->prepare(d, path, sizeof path);
    const char *subprotocol = dialect->subprotocol;
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: %s:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                        "%s%s%sSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                        path, opt.host, port, subprotocol ? "Sec-WebSocket-Protocol: " : "",
                        subprotocol ? subprotocol : "", subprotocol ? "\r\n" : "");
    memcpy(reserve(d, (size_t)size), request, (size_t)size);
    mark_dirty(d);
    return true;
}

void connect_device(struct device *d) {
    d->connect_started = now();
    if (!try_connect(d)) fail("%s cannot connect to %s: %s", d->name, opt.host, strerror(errno));
}

static void reconnect_devices(uint64_t time) {
    for (struct device *d = devices; disconnected_count && d < devices + device_count; d++) {
        if (d->state != DISCONNECTED || d->retry_at > time) continue;
        d->retry_at = time + RETRY_PAUSE;
        if (!try_connect(d)) continue;
        reconnects++;
        disconnected_count--;
    }
}

bool loop_once(uint64_t until) {
    struct epoll_event events[256];
    uint64_t time = now();
    if (time >= until) return false;
    if (disconnected_count) reconnect_devices(time);
    if (ack_pending_count && time > next_ack_check) {
        next_ack_check = time + TICK;
        for (; ack_pending_count; ack_pending_count--) {
            ack_pending[ack_pending_count - 1]->ack_pending = false;
            mark_dirty(ack_pending[ack_pending_count - 1]);
        }
    }
    uint64_t end = (disconnected_count || ack_pending_count) && until > time + TICK ? time + TICK : until;
    int wait = dirty_count ? 0 : (int)((end - time) / 1000000) + 1;
    int ready = epoll_wait(poller, events, 256, wait);
    if (ready < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < ready; i++) {
        struct device *d = events[i].data.ptr;
        if (!d) file_ready();
        if (d && d->state != DISCONNECTED && events[i].events & ~(uint32_t)EPOLLOUT) receive(d);
        if (d && d->state != DISCONNECTED && events[i].events & EPOLLOUT) {
            watch_socket(d, false);
            mark_dirty(d);
        }
    }
    struct device **current = dirty;
    int count = dirty_count;
    dirty = flushing;
    flushing = current;
    dirty_count = 0;
    for (int i = 0; i < count; i++) flush(current[i]);
    return true;
}

void close_all(void) {
    uint8_t code[2] = {1000 >> 8, 1000 & 255};
    uint64_t deadline = now() + 3 * SECOND;
    reconnecting = true;
    for (struct device *d = devices; d < devices + device_count; d++) {
        if (d->state <= DISCONNECTED) continue;
        write_frame(d, CLOSE, code, sizeof code);
        flush(d);
    }
    for (struct device *d = devices; d < devices + device_count; d++) {
        if (d->state <= DISCONNECTED) continue;
        struct pollfd fd = {.fd = d->fd, .events = POLLIN};
        while (now() < deadline && poll(&fd, 1, 100) >= 0)
            if (fd.revents && read(fd.fd, inbox, sizeof inbox) <= 0) break;
    }
}
