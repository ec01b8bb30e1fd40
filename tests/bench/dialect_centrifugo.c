/* Centrifugo's JSON protocol: each device subscribes to a channel of its own, and publishes to its peer's. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "device.h"
#include "options.h"

static void prepare(struct device *d, char *path, size_t size) {
    snprintf(path, size, "/connection/websocket");
    d->head_length = (size_t)snprintf((char *)d->head, sizeof d->head,
                                        "{\"id\":3,\"publish\":{\"channel\":\"%s.%s\",\"data\":\"", opt.app,
                                        d->peer->name);
    d->received_head_length = (size_t)snprintf((char *)d->received_head, sizeof d->received_head,
                                       "{\"push\":{\"channel\":\"%s.%s\",\"pub\":{\"data\":\"", opt.app, d->name);
    if (d->head_length >= sizeof d->head || d->received_head_length >= sizeof d->received_head)
        fail("the name of the app is too long");
}

static void opened(struct device *d) {
    write_text_message(d, "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"%s.%s\"}}", opt.app,
                       d->name);
}

static void on_line(struct device *d, const uint8_t *p, size_t size, uint64_t time) {
    size_t whole = d->received_head_length + (size_t)opt.size + 1; /* followed by the name of the sender */
    if (begins(p, size, "{\"push\"")) {
        on_payload(d, p, size < whole ? size : whole, time);
    } else if (size == 2) {
        write_text_message(d, "{}"); /* ping, pong */
    } else if (begins(p, size, "{\"id\":2,\"subscribe\"")) {
        ready(d);
    } else if (!begins(p, size, "{\"id\":1,\"connect\"") && !begins(p, size, "{\"id\":3,\"publish\"") &&
               !(opt.kill && begins(p, size, "{\"id\":3,\"error\""))) { /* refused: it will count as lost */
        unexpected(d, p, size, "{\"push\"");
    }
}

static size_t on_message(struct device *d, int opcode, const uint8_t *data, size_t size, uint64_t time) {
    if (opcode != TEXT) unexpected(d, data, size, "a text");
    for (size_t at = 0; at < size;) {
        const uint8_t *p = data + at, *end = memchr(p, '\n', size - at);
        size_t length = end ? (size_t)(end - p) : size - at;
        on_line(d, p, length, time);
        at += length + 1;
    }
    return size;
}

const struct dialect centrifugo = {
    .name = "centrifugo", .opcode = TEXT, .tail = "\"}}", .received_tail = "\"", .prepare = prepare,
    .opened = opened, .on_message = on_message,
};
