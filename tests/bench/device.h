/* A device of the generator, and the dialects that it may speak. */
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
    char token[64];     /* what a dialect needs to come back with */
    uint8_t before[96]; /* what a dialect says before each payload */
    size_t before_length;
    uint8_t heard[96]; /* what it hears before each payload */
    size_t heard_length;
    uint64_t owed;                   /* payloads that may be sent now */
    uint64_t sent;                   /* payloads, as far as they count: see rewind_to */
    uint64_t made;                   /* the most that `sent` has been */
    uint64_t acked;                  /* payloads that the server has taken, where a dialect says so */
    uint64_t next, received; /* the highest number heard, and 1; how many were heard */
    uint64_t unsaid, said;   /* payloads not acknowledged yet; when the last were */
    uint8_t *seen;                   /* bit for each number that came */
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

/* How payloads are wrapped, and what devices say before. All dialects speak WebSocket. */
struct dialect {
    const char *name;
    int opcode;              /* of all frames sent */
    bool stream;             /* frames are cut anywhere: what they carry is one stream of bytes */
    const char *subprotocol; /* or NULL */
    const char *after;       /* what follows a payload sent, */
    const char *heard_after; /* and one heard; NULL: the same */
    /* Write the path to connect to; fill `before` and `heard`. */
    void (*prepare)(struct device *, char *path, size_t size);
    /* The WebSocket is open. */
    void (*opened)(struct device *);
    /* Hear a whole message; or of a stream as much as is whole, and give how many bytes that is. */
    size_t (*hear)(struct device *, int opcode, const uint8_t *, size_t, uint64_t time);
    /* Put the number of a payload where it belongs, in `before`; NULL: nowhere. */
    void (*number)(struct device *);
    /* Acknowledge what was heard, unless it is better to wait for more; NULL: nothing is. Give which. */
    bool (*acknowledge)(struct device *);
};

extern const struct dialect *dialect;
extern const struct dialect classic, v1, plain, socketio, mqtt0, mqtt1, nats, centrifugo;

/* -- what dialects call */

/* Say something that is no payload. */
void say(struct device *, const void *, size_t);
__attribute__((format(printf, 2, 3))) void say_text(struct device *, const char *format, ...);

/* The device can send and hear payloads. */
void ready(struct device *);

/* Account for what came, beginning with `heard` and ending with `heard_after`. */
void hear_payload(struct device *, const uint8_t *, size_t, uint64_t time);

/* Send all again from payload number `number` on. */
void rewind_to(struct device *, uint64_t number);

/* End the process: a device heard what it should not. */
__attribute__((noreturn)) void unexpected(const struct device *, const uint8_t *, size_t, const char *wanted);

bool begins(const uint8_t *, size_t, const char *with);

void *enough(void *memory, size_t size);

#endif
