/* Socket.IO 5 over Engine.IO 4, by WebSocket from the start: an event "m" with one text. */
#include <stdio.h>
#include <string.h>

#include "device.h"
#include "options.h"

static void prepare(struct device *d, char *path, size_t size) {
    snprintf(path, size, "/socket.io/?EIO=4&transport=websocket&d=%s.%s", opt.app, d->name);
    d->head_length = d->received_head_length = strlen("42[\"m\",\"");
    memcpy(d->head, "42[\"m\",\"", d->head_length);
    memcpy(d->received_head, d->head, d->head_length);
}

static void opened(struct device *d) { (void)d; }

static size_t on_message(struct device *d, int opcode, const uint8_t *p, size_t size, uint64_t time) {
    if (opcode != TEXT) unexpected(d, p, size, "a text");
    if (begins(p, size, "42")) {
        on_payload(d, p, size, time);
    } else if (begins(p, size, "2")) {
        write_text_message(d, "3"); /* ping, pong */
    } else if (begins(p, size, "0{")) {
        write_text_message(d, "40"); /* the namespace "/" */
    } else if (begins(p, size, "40{")) {
        ready(d);
    } else {
        unexpected(d, p, size, "42[");
    }
    return size;
}

const struct dialect socketio = {
    .name = "socketio", .opcode = TEXT, .tail = "\"]", .prepare = prepare, .opened = opened, .on_message = on_message,
};
