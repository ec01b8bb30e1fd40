/* A device of the generator, and its dialects. */
#ifndef DEVICE_H
#define DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "measure.h"

enum { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 }; /* opcodes */

enum state { NEW, ABSENT, UPGRADING, OPENING, READY };

struct device {
    int fd, pair, side;
    enum state state;
    struct device *peer;
    char name[16];      /* a<pair> or b<pair> */
    char token[64];     /* what a dialect needs to reconnect */
    uint8_t head[96]; /* what precedes each payload sent */
    size_t head_length;
    uint8_t received_head[96]; /* what precedes each payload received */
    size_t received_head_length;
    uint64_t owed;                   /* payloads that may be sent now */
    uint64_t sent;                   /* payloads, as far as they count: see rewind_to */
    uint64_t made;                   /* the most that `sent` has been */
    uint64_t acked;                  /* payloads that the server has acknowledged, if the dialect does */
    uint64_t next, received; /* the highest number received, plus 1; how many were received */
    uint64_t unacked, acked_at;   /* payloads not acknowledged yet; when the last ack was sent */
    uint8_t *seen;                   /* bit for each number received */
    size_t seen_capacity;
    uint8_t *out; /* frames not written yet: out[out_from .. out_to) */
    size_t out_from, out_to, out_capacity;
    uint8_t *rest; /* the part of a frame that has arrived */
    size_t rest_length;
    uint64_t frame_left; /* bytes of the frame being read, in a dialect that is a stream */
    uint8_t *part;       /* of that stream, what is not whole yet */
    size_t part_length;
    uint64_t since;    /* when it began to connect; when it may try again */
    bool was_ready, dirty, waiting, blocked;
};

/* How payloads are framed, and the handshake. All dialects use WebSocket. */
struct dialect {
    const char *name;
    int opcode;              /* of all frames sent */
    bool stream;             /* frame boundaries mean nothing: frames carry one stream of bytes */
    const char *subprotocol; /* or NULL */
    const char *tail;        /* what follows a payload sent, */
    const char *received_tail; /* and one received; NULL: the same */
    /* Write the path to connect to; fill `head` and `received_head`. */
    void (*prepare)(struct device *, char *path, size_t size);
    /* The WebSocket is open. */
    void (*opened)(struct device *);
    /* Handle a whole message, or the whole part of a stream; return how many bytes that is. */
    size_t (*on_message)(struct device *, int opcode, const uint8_t *, size_t, uint64_t time);
    /* Put the number of a payload into `head`; NULL: it has no place there. */
    void (*number)(struct device *);
    /* Acknowledge what was received, or wait for more; return which. NULL: no acks. */
    bool (*acknowledge)(struct device *);
};

extern const struct dialect *dialect;
extern const struct dialect classic, v1, plain, socketio, mqtt0, mqtt1, nats, centrifugo;

/* -- what dialects call */

/* Write a message that is no payload. */
void write_message(struct device *, const void *, size_t);
__attribute__((format(printf, 2, 3))) void write_text_message(struct device *, const char *format, ...);

/* The device can send and receive payloads. */
void ready(struct device *);

/* Account for a payload, which begins with `received_head` and ends with `received_tail`. */
void on_payload(struct device *, const uint8_t *, size_t, uint64_t time);

/* Send all again from payload number `number` on. */
void rewind_to(struct device *, uint64_t number);

/* End the process: a device received something unexpected. */
__attribute__((noreturn)) void unexpected(const struct device *, const uint8_t *, size_t, const char *wanted);

bool begins(const uint8_t *, size_t, const char *with);

void *enough(void *memory, size_t size);

#endif
