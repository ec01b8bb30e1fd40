/* Centrifugo's JSON protocol: each device subscribes to its own channel and publishes to its peer's. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "device.h"
#include "options.h"

static void prepare(struct device *d, char *path, size_t size) {
    snprintf(path, size, "/connection/websocket");
    d->prefix_length = (size_t)snprintf((char *)d->prefix, sizeof d->prefix,
                                        "{\"id\":3,\"publish\":{\"channel\":\"%s.%s\",\"data\":\"", opt.app,
                                        d->peer->name);
    d->received_prefix_length = (size_t)snprintf((char *)d->received_prefix, sizeof d->received_prefix,
                                       "{\"push\":{\"channel\":\"%s.%s\",\"pub\":{\"data\":\"", opt.app, d->name);
    if (d->prefix_length >= sizeof d->prefix || d->received_prefix_length >= sizeof d->received_prefix)
        fail("--app: too long for this dialect");
}

static void on_open(struct device *d) {
    write_text_message(d, "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"%s.%s\"}}", opt.app,
                       d->name);
}

static void on_line(struct device *d, const uint8_t *p, size_t size, uint64_t time) {
    size_t complete = d->received_prefix_length + (size_t)opt.size + 1; /* followed by the name of the sender */
    if (starts_with(p, size, "{\"push\"")) {
        on_payload(d, p, size < complete ? size : complete, time);
    } else if (size == 2) {
        write_text_message(d, "{}"); /* a ping, answered by a pong */
    } else if (starts_with(p, size, "{\"id\":2,\"subscribe\"")) {
        mark_ready(d);
    } else if (!starts_with(p, size, "{\"id\":1,\"connect\"") && !starts_with(p, size, "{\"id\":3,\"publish\"") &&
               !(opt.kill && starts_with(p, size, "{\"id\":3,\"error\""))) { /* a rejected payload counts as lost */
        unexpected(d, p, size, "{\"push\"");
    }
}

static size_t on_message(struct device *d, int opcode, const uint8_t *data, size_t size, uint64_t time) {
    if (opcode != TEXT) unexpected(d, data, size, "a text frame");
    for (size_t at = 0; at < size;) {
        const uint8_t *p = data + at, *end = memchr(p, '\n', size - at);
        size_t length = end ? (size_t)(end - p) : size - at;
        on_line(d, p, length, time);
        at += length + 1;
    }
    return size;
}

const struct dialect centrifugo = {
    .name = "centrifugo", .opcode = TEXT, .suffix = "\"}}", .received_suffix = "\"", .prepare = prepare,
    .on_open = on_open, .on_message = on_message,
};
