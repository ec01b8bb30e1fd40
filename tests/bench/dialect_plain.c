/* Plain text frames; the server sends "ready" once it can deliver to the device. */
#include <stdio.h>

#include "device.h"
#include "options.h"

static void prepare(struct device *d, char *path, size_t size) {
    snprintf(path, size, "/%s.%s", opt.app, d->name);
}

static void on_open(struct device *d) { (void)d; }

static size_t on_message(struct device *d, int opcode, const uint8_t *p, size_t size, uint64_t time) {
    if (opcode != TEXT) unexpected(d, p, size, "a text frame");
    if (d->state != READY && starts_with(p, size, "ready")) mark_ready(d);
    else if (d->was_ready) on_payload(d, p, size, time); /* may arrive before the second "ready" */
    else unexpected(d, p, size, "ready");
    return size;
}

const struct dialect plain = {
    .name = "plain", .opcode = TEXT, .suffix = "", .prepare = prepare, .on_open = on_open, .on_message = on_message,
};
