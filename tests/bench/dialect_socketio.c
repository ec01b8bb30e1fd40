/* Socket.IO 5 over Engine.IO 4, WebSocket only: each payload is an event "m" with one string. */
#include <stdio.h>
#include <string.h>

#include "device.h"
#include "options.h"

static void prepare(struct device *d, char *path, size_t size) {
    snprintf(path, size, "/socket.io/?EIO=4&transport=websocket&d=%s.%s", opt.app, d->name);
    d->prefix_length = d->received_prefix_length = strlen("42[\"m\",\"");
    memcpy(d->prefix, "42[\"m\",\"", d->prefix_length);
    memcpy(d->received_prefix, d->prefix, d->prefix_length);
}

static void on_open(struct device *d) { (void)d; }

static size_t on_message(struct device *d, int opcode, const uint8_t *p, size_t size, uint64_t time) {
    if (opcode != TEXT) unexpected(d, p, size, "a text frame");
    if (starts_with(p, size, "42")) {
        on_payload(d, p, size, time);
    } else if (starts_with(p, size, "2")) {
        write_text_message(d, "3"); /* a ping, answered by a pong */
    } else if (starts_with(p, size, "0{")) {
        write_text_message(d, "40"); /* connect to the namespace "/" */
    } else if (starts_with(p, size, "40{")) {
        mark_ready(d);
    } else {
        unexpected(d, p, size, "42[");
    }
    return size;
}

const struct dialect socketio = {
    .name = "socketio", .opcode = TEXT, .suffix = "\"]", .prepare = prepare, .on_open = on_open,
    .on_message = on_message,
};
