/* NATS' own protocol: each device listens to a subject of its own, and publishes to its peer's. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "device.h"
#include "options.h"

static void prepare(struct device *d, char *path, size_t size) {
    snprintf(path, size, "/");
    d->before_length = (size_t)snprintf((char *)d->before, sizeof d->before, "PUB bench.%s.%s %d\r\n", opt.app,
                                        d->peer->name, opt.size);
    d->heard_length = (size_t)snprintf((char *)d->heard, sizeof d->heard, "MSG bench.%s.%s 1 %d\r\n", opt.app,
                                       d->name, opt.size);
    if (d->before_length >= sizeof d->before || d->heard_length >= sizeof d->heard)
        fail("the name of the app is too long");
}

static void opened(struct device *d) {
    say_text(d, "CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false,\"headers\":true}\r\n"
                "SUB bench.%s.%s 1\r\nPING\r\n", opt.app, d->name);
}

static size_t hear(struct device *d, int opcode, const uint8_t *data, size_t size, uint64_t time) {
    size_t at = 0, whole = d->heard_length + (size_t)opt.size + 2;
    (void)opcode;
    for (;;) {
        const uint8_t *p = data + at, *end = memchr(p, '\n', size - at);
        if (!end) break;
        size_t length = (size_t)(end - p) + 1;
        if (begins(p, length, "MSG ")) {
            if (size - at < whole) break;
            hear_payload(d, p, length = whole, time);
        } else if (begins(p, length, "PING")) {
            say(d, "PONG\r\n", 6);
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
    .name = "nats", .opcode = BINARY, .stream = true, .after = "\r\n", .prepare = prepare, .opened = opened,
    .hear = hear,
};
