/* The generator's devices, and the dialects they speak. */
#ifndef DEVICE_H
#define DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "measure.h"

enum { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 }; /* WebSocket opcodes */

enum state { NEW, DISCONNECTED, UPGRADING, OPENING, READY };

struct device {
    int fd, pair, side;
    enum state state;
    struct device *peer;
    char name[16];  /* a<pair> or b<pair> */
    char token[64]; /* state that a dialect needs to reconnect, with the match */
    uint64_t match;

    uint8_t prefix[96]; /* written before each payload */
    size_t prefix_length;
    uint8_t received_prefix[96]; /* expected before each received payload */
    size_t received_prefix_length;

    uint64_t credit;     /* payloads that may be sent now */
    uint64_t send_next;  /* number of the next payload to send; rewind_to lowers it */
    uint64_t sent_total; /* payloads sent at least once */
    uint64_t acked;      /* payloads acknowledged by the server, in dialects in which it does */

    uint64_t receive_next;      /* highest number received, plus 1 */
    uint64_t received;          /* distinct payloads received */
    uint64_t unacked, acked_at; /* payloads received since the last ack; when that ack was sent */
    uint8_t *seen;              /* bitmap of the numbers received */
    size_t seen_capacity;

    uint8_t *out; /* frames still to be written: out[out_from .. out_to) */
    size_t out_from, out_to, out_capacity;
    uint8_t *unparsed; /* the beginning of a frame of which the rest has not arrived yet */
    size_t unparsed_length;
    uint64_t frame_left; /* bytes left of the current frame; only in stream dialects */
    uint8_t *stream;     /* the beginning of an incomplete message in that stream */
    size_t stream_length;

    uint64_t connect_started; /* when the device connected for the first time */
    uint64_t retry_at;        /* when a disconnected device connects again */
    bool was_ready, dirty, ack_pending, blocked;
};

/* A protocol over WebSocket: its handshake and the framing of payloads. */
struct dialect {
    const char *name;
    int opcode;              /* of all frames sent */
    bool stream;             /* frames carry one stream of bytes; their boundaries mean nothing */
    const char *subprotocol; /* or NULL */
    const char *suffix;          /* written after each payload */
    const char *received_suffix; /* expected after each received payload; NULL: the same as suffix */
    /* Write the path to connect to; fill prefix and received_prefix. */
    void (*prepare)(struct device *, char *path, size_t size);
    /* Called once the WebSocket is open. */
    void (*on_open)(struct device *);
    /* Handle a message, or the complete messages at the beginning of a stream; return the bytes consumed. */
    size_t (*on_message)(struct device *, int opcode, const uint8_t *, size_t, uint64_t time);
    /* Write the number of the next payload into prefix; NULL: prefix has no number. */
    void (*set_number)(struct device *);
    /* Send an ack, or wait for more payloads; return whether it was sent. NULL: no acks. */
    bool (*acknowledge)(struct device *);
};

extern const struct dialect *dialect;
extern const struct dialect classic, v1, plain, socketio, mqtt0, mqtt1, nats, centrifugo;

/* -- called by dialects */

/* Send a message that is not a payload. */
void write_message(struct device *, const void *, size_t);
__attribute__((format(printf, 2, 3))) void write_text_message(struct device *, const char *format, ...);

/* From now on the device can send and receive payloads. */
void mark_ready(struct device *);

/* Check a received payload, including its prefix and suffix, and count it. */
void on_payload(struct device *, const uint8_t *, size_t, uint64_t time);

/* Send again from payload `number` on. */
void rewind_to(struct device *, uint64_t number);

/* Exit with an error: a device received something that its dialect does not allow here. */
__attribute__((noreturn)) void unexpected(const struct device *, const uint8_t *, size_t, const char *expected);

bool starts_with(const uint8_t *, size_t, const char *prefix);

/* realloc that exits when out of memory. */
void *xrealloc(void *memory, size_t size);

#endif
