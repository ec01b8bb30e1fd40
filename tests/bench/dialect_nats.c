/* The NATS protocol: each device subscribes to its own subject and publishes to its peer's. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "device.h"
#include "options.h"

static void prepare(struct device *d, char *path, size_t size) {
    snprintf(path, size, "/");
    d->prefix_length = (size_t)snprintf((char *)d->prefix, sizeof d->prefix, "PUB bench.%s.%s %d\r\n", opt.app,
                                      d->peer->name, opt.size);
    d->received_prefix_length = (size_t)snprintf((char *)d->received_prefix, sizeof d->received_prefix,
                                               "MSG bench.%s.%s 1 %d\r\n", opt.app, d->name, opt.size);
    if (d->prefix_length >= sizeof d->prefix || d->received_prefix_length >= sizeof d->received_prefix)
        fail("--app: too long for this dialect");
}

static void on_open(struct device *d) {
    write_text_message(d, "CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false,\"headers\":true}\r\n"
                "SUB bench.%s.%s 1\r\nPING\r\n", opt.app, d->name);
}

static size_t on_message(struct device *d, int opcode, const uint8_t *data, size_t size, uint64_t time) {
    size_t at = 0, complete = d->received_prefix_length + (size_t)opt.size + 2;
    (void)opcode;
    for (;;) {
        const uint8_t *p = data + at, *end = memchr(p, '\n', size - at);
        if (!end) break;
        size_t length = (size_t)(end - p) + 1;
        if (starts_with(p, length, "MSG ")) {
            if (size - at < complete) break;
            on_payload(d, p, length = complete, time);
        } else if (starts_with(p, length, "PING")) {
            write_message(d, "PONG\r\n", 6);
        } else if (starts_with(p, length, "PONG")) {
            if (d->state == OPENING) mark_ready(d);
        } else if (!starts_with(p, length, "INFO ") && !starts_with(p, length, "+OK")) {
            unexpected(d, p, length, "MSG");
        }
        at += length;
    }
    return at;
}

const struct dialect nats = {
    .name = "nats", .opcode = BINARY, .stream = true, .suffix = "\r\n", .prepare = prepare, .on_open = on_open,
    .on_message = on_message,
};
