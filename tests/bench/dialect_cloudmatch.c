/* CloudMatch: the classic dialect, and cloudmatch.v1 with binary payloads. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "device.h"
#include "options.h"

static int connect_path(const struct device *d, char *path, size_t size) {
    return snprintf(path, size, "/device/connect?id=%s&app=%s&lat=52.37&lon=4.89&tag=%d", d->name, opt.app,
                    d->pair);
}

/* -- classic */

static void prepare_classic(struct device *d, char *path, size_t size) {
    connect_path(d, path, size);
    d->received_prefix_length = (size_t)sprintf((char *)d->received_prefix, "device %s says: ", d->peer->name);
}

static void on_open(struct device *d) { *d->token = 0; }

static size_t on_classic(struct device *d, int opcode, const uint8_t *p, size_t size, uint64_t time) {
    static const char greeting[] = "Connected and handled by ";
    char announcement[64];
    int length = snprintf(announcement, sizeof announcement, "I matched with device '%s'!", d->peer->name);
    bool matched = size == (size_t)length && starts_with(p, size, announcement);
    if (opcode != TEXT) unexpected(d, p, size, "a text frame");
    if (d->state == READY) { /* the peer may have reconnected, too */
        if (!matched || !(opt.cut || opt.kill)) on_payload(d, p, size, time);
    } else if (!*d->token) {
        if (!starts_with(p, size, greeting)) unexpected(d, p, size, greeting);
        *d->token = 1; /* greeting received */
    } else {
        if (!matched) unexpected(d, p, size, announcement);
        mark_ready(d);
    }
    return size;
}

const struct dialect classic = {
    .name = "classic", .opcode = TEXT, .suffix = "", .prepare = prepare_classic, .on_open = on_open,
    .on_message = on_classic,
};

/* -- cloudmatch.v1 */

enum { ACK_COUNT = 16 /* payloads per ack, as in our own clients */ };
#define ACK_DELAY (SECOND / 50)

static void prepare_v1(struct device *d, char *path, size_t size) {
    int length = connect_path(d, path, size);
    if (*d->token)
        snprintf(path + length, size - (size_t)length, "&resume=%s&match=%llu&received=%llu", d->token,
                 (unsigned long long)d->match, (unsigned long long)d->receive_next);
}

static void on_open_v1(struct device *d) { (void)d; }

static bool parse_number(const uint8_t *p, size_t size, const char *field, uint64_t *number) {
    const uint8_t *at = memmem(p, size, field, strlen(field)), *end = p + size;
    if (!at) return false;
    *number = 0;
    for (at += strlen(field); at < end && *at >= '0' && *at <= '9'; at++) *number = 10 * *number + (*at - '0');
    return true;
}

static size_t on_v1(struct device *d, int opcode, const uint8_t *p, size_t size, uint64_t time) {
    static const char resume[] = "\"resume\":\"";
    uint64_t number;
    if (opcode == BINARY) {
        on_payload(d, p, size, time);
    } else if (starts_with(p, size, "{\"type\":\"welcome\"")) {
        const uint8_t *at = memmem(p, size, resume, strlen(resume));
        if (!at || sscanf((const char *)at + strlen(resume), "%63[^\"]", d->token) != 1)
            unexpected(d, p, size, resume);
    } else if (starts_with(p, size, "{\"type\":\"matched\"")) {
        if (d->was_ready) unexpected(d, p, size, "no second match");
        if (!parse_number(p, size, "\"match\":", &d->match)) unexpected(d, p, size, "match");
        mark_ready(d);
    } else if (starts_with(p, size, "{\"type\":\"resumed\"")) {
        if (!parse_number(p, size, "\"received\":", &number)) unexpected(d, p, size, "received");
        mark_ready(d);
        rewind_to(d, number);
    } else if (starts_with(p, size, "{\"type\":\"peer_left\"") || starts_with(p, size, "{\"type\":\"error\"") ||
               starts_with(p, size, "{\"type\":\"gap\"")) {
        unexpected(d, p, size, "payloads");
    }
    return size;
}

static bool acknowledge_v1(struct device *d) {
    uint64_t time = now();
    if (d->unacked < ACK_COUNT && time < d->acked_at + ACK_DELAY) return false;
    write_text_message(d, "{\"type\":\"ack\",\"received\":%llu}", (unsigned long long)d->receive_next);
    d->unacked = 0;
    d->acked_at = time;
    return true;
}

const struct dialect v1 = {
    .name = "v1", .opcode = BINARY, .subprotocol = "cloudmatch.v1", .suffix = "", .prepare = prepare_v1,
    .on_open = on_open_v1, .on_message = on_v1, .acknowledge = acknowledge_v1,
};
