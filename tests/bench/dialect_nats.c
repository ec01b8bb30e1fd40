/* NATS' own protocol: each device listens to a subject of its own, and publishes to its peer's. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "device.h"
#include "options.h"

static void prepare(struct device *d, char *path, size_t size) {
    snprintf(path, size, "/");
    d->head_length = (size_t)snprintf((char *)d->head, sizeof d->head, "PUB bench.%s.%s %d\r\n", opt.app,
                                      d->peer->name, opt.size);
    d->received_head_length = (size_t)snprintf((char *)d->received_head, sizeof d->received_head,
                                               "MSG bench.%s.%s 1 %d\r\n", opt.app, d->name, opt.size);
    if (d->head_length >= sizeof d->head || d->received_head_length >= sizeof d->received_head)
        fail("the name of the app is too long");
}

static void opened(struct device *d) {
    write_text_message(d, "CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false,\"headers\":true}\r\n"
                "SUB bench.%s.%s 1\r\nPING\r\n", opt.app, d->name);
}

static size_t on_message(struct device *d, int opcode, const uint8_t *data, size_t size, uint64_t time) {
    size_t at = 0, whole = d->received_head_length + (size_t)opt.size + 2;
    (void)opcode;
    for (;;) {
        const uint8_t *p = data + at, *end = memchr(p, '\n', size - at);
        if (!end) break;
        size_t length = (size_t)(end - p) + 1;
        if (begins(p, length, "MSG ")) {
            if (size - at < whole) break;
            on_payload(d, p, length = whole, time);
        } else if (begins(p, length, "PING")) {
            write_message(d, "PONG\r\n", 6);
        } else if (begins(p, length, "PONG")) {
            if (d->state == OPENING) ready(d);
        } else if (!begins(p, length, "INFO ") && !begins(p, length, "+OK")) {
            unexpected(d, p, length, "MSG");
        }
        at += length;
    }
    return at;
}

const struct dialect nats = {
    .name = "nats", .opcode = BINARY, .stream = true, .tail = "\r\n", .prepare = prepare, .opened = opened,
    .on_message = on_message,
};
