/* Texts and nothing else; a device receives "ready" once it can be sent to. */
#include <stdio.h>

#include "device.h"
#include "options.h"

static void prepare(struct device *d, char *path, size_t size) {
    snprintf(path, size, "/%s.%s", opt.app, d->name);
}

static void opened(struct device *d) { (void)d; }

static size_t on_message(struct device *d, int opcode, const uint8_t *p, size_t size, uint64_t time) {
    if (opcode != TEXT) unexpected(d, p, size, "a text");
    if (d->state != READY && begins(p, size, "ready")) ready(d);
    else if (d->was_ready) on_payload(d, p, size, time); /* it may come before the second "ready" */
    else unexpected(d, p, size, "ready");
    return size;
}

const struct dialect plain = {
    .name = "plain", .opcode = TEXT, .tail = "", .prepare = prepare, .opened = opened, .on_message = on_message,
};
