/*
 * A payload is ASCII text of a fixed size: its number (8 hex digits), the time it was due (16 hex digits,
 * ns), then filler that depends on its number. The receiver checks every payload: a number seen before is
 * repeated, one below a number already received is reordered, any other content is damaged, and whatever has
 * not arrived some time after the last payload was sent is lost.
 *
 * Closed loop: each sender keeps a window of payloads in flight; a payload that arrives frees its slot, and
 * those of all that it has overtaken. Open loop: payloads are due at a fixed total rate, whether or not
 * earlier ones have arrived, and latency counts from when a payload was due: a stall is charged to every
 * payload that had to wait behind it.
 */
#define _GNU_SOURCE
#include "payloads.h"

#include <string.h>

#include "frames.h"
#include "options.h"

enum { FILLER_PERIOD = 64, WRITE_LIMIT = 256 * 1024 /* unsent bytes above which no more frames are built */ };

static const char alphabet[FILLER_PERIOD + 1] = /* needs no escaping in any dialect */
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
static char filler[FILLER_PERIOD + MAX_SIZE];

struct histogram latencies, lateness;
struct check check;
bool measuring, sending;
uint64_t began;

void prepare_payloads(void) {
    for (size_t i = 0; i < sizeof filler; i++) filler[i] = alphabet[i % FILLER_PERIOD];
}

int senders(void) { return opt.both_ways ? device_count : opt.pairs; }

struct device *sender(uint64_t index) { return &devices[opt.both_ways ? index : 2 * index]; }

/* When the next payload of this device is due in open loop: senders take turns. */
static uint64_t due_time(const struct device *d) {
    int turn = opt.both_ways ? 2 * d->pair + d->side : d->pair;
    double index = (double)d->send_next * senders() + turn;
    return began + (uint64_t)((index + 1) * 1e9 / opt.rate);
}

static void write_hex(uint8_t *p, int digits, uint64_t value) {
    for (int i = digits; i--; value >>= 4) p[i] = (uint8_t)"0123456789abcdef"[value & 15];
}

static bool read_hex(const uint8_t *p, int digits, uint64_t *value) {
    *value = 0;
    for (int i = 0; i < digits; i++) {
        unsigned digit = p[i] <= '9' ? p[i] - (unsigned)'0' : p[i] - (unsigned)'a' + 10;
        if (digit > 15) return false;
        *value = *value << 4 | digit;
    }
    return true;
}

static void write_payload(struct device *d, uint64_t due) {
    size_t suffix_length = strlen(dialect->suffix), size = d->prefix_length + (size_t)opt.size + suffix_length;
    if (dialect->set_number) dialect->set_number(d);
    uint8_t *body = begin_frame(d, dialect->opcode, size), *p = body;
    memcpy(p, d->prefix, d->prefix_length);
    write_hex(p += d->prefix_length, NUMBER, d->send_next);
    write_hex(p += NUMBER, TIME, due);
    memcpy(p += TIME, filler + d->send_next % FILLER_PERIOD, (size_t)opt.size - STAMP);
    memcpy(p + opt.size - STAMP, dialect->suffix, suffix_length);
    mask(body, size);
    if (++d->send_next > d->sent_total) d->sent_total = d->send_next;
}

void spend_credit(struct device *d) {
    uint64_t time = now();
    while (d->credit && unsent_bytes(d) < WRITE_LIMIT) {
        uint64_t due = opt.rate > 0 ? due_time(d) : time;
        if (measuring) record(&lateness, time > due ? time - due : 0);
        write_payload(d, due);
        d->credit--;
    }
}

void rewind_to(struct device *d, uint64_t number) {
    if (number < d->send_next) {
        d->credit += d->send_next - number;
        d->send_next = number;
        mark_dirty(d);
    }
}

/* Mark a number as seen; return whether it was seen before. */
static bool mark_seen(struct device *d, uint64_t number) {
    size_t byte = number / 8;
    if (byte >= d->seen_capacity) {
        size_t capacity = 2 * byte + 1024;
        d->seen = xrealloc(d->seen, capacity);
        memset(d->seen + d->seen_capacity, 0, capacity - d->seen_capacity);
        d->seen_capacity = capacity;
    }
    uint8_t bit = (uint8_t)(1 << number % 8), before = d->seen[byte];
    d->seen[byte] |= bit;
    return before & bit;
}

void on_payload(struct device *d, const uint8_t *p, size_t size, uint64_t time) {
    uint64_t number, due, freed = 0;
    struct device *from = d->peer;
    const uint8_t *body = p + d->received_prefix_length;
    const char *suffix = dialect->received_suffix ? dialect->received_suffix : dialect->suffix;
    size_t suffix_length = strlen(suffix);
    check.received++;
    d->unacked++;
    if (size != d->received_prefix_length + (size_t)opt.size + suffix_length ||
        memcmp(p, d->received_prefix, d->received_prefix_length) ||
        memcmp(body + opt.size, suffix, suffix_length) || !read_hex(body, NUMBER, &number) ||
        !read_hex(body + NUMBER, TIME, &due) || due > time || number >= from->sent_total ||
        memcmp(body + STAMP, filler + number % FILLER_PERIOD, (size_t)opt.size - STAMP)) {
        check.damaged++;
        number = d->receive_next; /* take it for the one expected next */
        due = time;
    }
    if (mark_seen(d, number)) {
        check.repeated++;
        return;
    }
    d->received++;
    if (number < d->receive_next) {
        check.reordered++;
    } else {
        freed = number + 1 - d->receive_next;
        d->receive_next = number + 1;
    }
    if (measuring) record(&latencies, time - due);
    if (sending && opt.rate <= 0 && freed) {
        from->credit += freed;
        mark_dirty(from);
    }
}

uint64_t count_lost(void) {
    check.lost = 0;
    for (int i = 0; i < device_count; i++) check.lost += devices[i].sent_total - devices[i].peer->received;
    return check.lost;
}
