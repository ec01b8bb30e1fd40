/* MQTT 3.1.1: each device subscribes to its own topic and publishes to its peer's. */
#include <stdio.h>
#include <string.h>

#include "device.h"
#include "options.h"

enum { CONNACK = 0x20, PUBLISH = 0x30, PUBACK = 0x40, SUBACK = 0x90 };

static int qos(void) { return dialect == &mqtt1; }

/* Write a length in MQTT's variable-byte encoding; return the position after it. */
static uint8_t *write_length(uint8_t *p, size_t length) {
    do {
        *p++ = (uint8_t)(length % 128 | (length > 127 ? 128 : 0));
    } while (length /= 128);
    return p;
}

static uint8_t *write_text(uint8_t *p, const char *text, size_t length) {
    *p++ = (uint8_t)(length >> 8);
    *p++ = (uint8_t)length;
    memcpy(p, text, length);
    return p + length;
}

static size_t topic(const struct device *d, char *name) { return (size_t)sprintf(name, "%s/%s", opt.app, d->name); }

static void prepare(struct device *d, char *path, size_t size) {
    char name[64];
    size_t length = topic(d->peer, name);
    if (length > 60) fail("--app: too long for this dialect");
    snprintf(path, size, "/mqtt");
    d->prefix[0] = (uint8_t)(PUBLISH | qos() << 1);
    uint8_t *p = write_length(d->prefix + 1, 2 + length + (qos() ? 2 : 0) + (size_t)opt.size);
    p = write_text(p, name, length);
    if (qos()) p += 2; /* the packet identifier: see set_number */
    d->prefix_length = (size_t)(p - d->prefix);
    d->received_prefix_length = 2 + topic(d, name);
    write_text(d->received_prefix, name, d->received_prefix_length - 2);
}

static void set_number(struct device *d) {
    if (!qos()) return;
    uint64_t id = d->send_next % 65535 + 1;
    d->prefix[d->prefix_length - 2] = (uint8_t)(id >> 8);
    d->prefix[d->prefix_length - 1] = (uint8_t)id;
}

static void on_open(struct device *d) {
    bool clean = !(opt.cut || opt.kill); /* the broker must keep the session of a device that reconnects */
    uint8_t packet[128] = {0x10}, *p = packet + 2;
    char name[64];
    size_t length = topic(d, name);
    p = write_text(p, "MQTT", 4);
    *p++ = 4;
    *p++ = clean ? 2 : 0;
    *p++ = 0; /* no keep-alive */
    *p++ = 0;
    p = write_text(p, name, length);
    packet[1] = (uint8_t)(p - packet - 2);
    write_message(d, packet, (size_t)(p - packet));
}

static void subscribe(struct device *d) {
    uint8_t packet[128] = {0x82, 0, 0, 1}, *p = packet + 4;
    char name[64];
    p = write_text(p, name, topic(d, name));
    *p++ = (uint8_t)qos();
    packet[1] = (uint8_t)(p - packet - 2);
    write_message(d, packet, (size_t)(p - packet));
}

static void on_publish(struct device *d, int level, const uint8_t *p, size_t size, uint64_t time) {
    static uint8_t message[96 + MAX_SIZE]; /* without the packet identifier */
    if (!level) {
        on_payload(d, p, size, time);
        return;
    }
    if (size < d->received_prefix_length + 2 || size > sizeof message)
        unexpected(d, p, size, "a payload with QoS 1");
    uint8_t ack[4] = {PUBACK, 2, p[d->received_prefix_length], p[d->received_prefix_length + 1]};
    memcpy(message, p, d->received_prefix_length);
    memcpy(message + d->received_prefix_length, p + d->received_prefix_length + 2,
           size - d->received_prefix_length - 2);
    on_payload(d, message, size - 2, time);
    write_message(d, ack, sizeof ack);
}

static size_t on_message(struct device *d, int opcode, const uint8_t *data, size_t size, uint64_t time) {
    size_t at = 0;
    if (opcode != BINARY) unexpected(d, data, size, "a binary frame");
    while (size - at >= 2) {
        const uint8_t *p = data + at;
        size_t length = 0, head = 1;
        do {
            length |= (size_t)(p[head] & 127) << 7 * (head - 1);
        } while (p[head++] & 128 && head < 5 && head < size - at);
        if ((p[head - 1] & 128) || size - at < head + length) break;
        switch (p[0] & 0xf0) {
        case PUBLISH: on_publish(d, p[0] >> 1 & 3, p + head, length, time); break;
        case PUBACK: d->acked++; break;
        case CONNACK:
            if (p[3]) unexpected(d, p, length + 2, "CONNACK with return code 0");
            subscribe(d);
            break;
        case SUBACK:
            mark_ready(d);
            if (qos()) rewind_to(d, d->acked);
            break;
        default: fail("%s received a packet that begins with 0x%02x", d->name, p[0]);
        }
        at += head + length;
    }
    return at;
}

const struct dialect mqtt0 = {
    .name = "mqtt0", .opcode = BINARY, .stream = true, .subprotocol = "mqtt", .suffix = "", .prepare = prepare,
    .on_open = on_open, .on_message = on_message,
};
const struct dialect mqtt1 = {
    .name = "mqtt1", .opcode = BINARY, .stream = true, .subprotocol = "mqtt", .suffix = "", .prepare = prepare,
    .on_open = on_open, .on_message = on_message, .set_number = set_number,
};
