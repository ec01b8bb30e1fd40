/*
 * A payload is ASCII text of a fixed size: its number (8 hex digits), the time it was due (16 hex digits,
 * ns), then filler that depends on its number. The receiver accounts for every payload: a number seen
 * before is repeated, one that comes after a higher one is reordered, other bytes are damage, and what has
 * not arrived a while after the last was sent is lost.
 *
 * Closed loop: each sender keeps a window of payloads in flight; one that arrives frees its place, and those
 * of all that it has overtaken. Open loop: payloads are due at a fixed total rate, whether earlier ones
 * arrived or not, and latency counts from when a payload was due: a stall is charged to all that had to wait
 * behind it.
 */
#define _GNU_SOURCE
#include "payloads.h"

#include <string.h>

#include "frames.h"
#include "options.h"

enum { FILLER_PERIOD = 64, OUTBOX = 256 * 1024 /* unsent bytes at which a connection takes no more */ };

static const char alphabet[FILLER_PERIOD + 1] = /* no dialect needs to escape any of these */
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
static char filler[FILLER_PERIOD + MAX_SIZE];

struct histogram latencies, lateness;
struct account account;
bool measuring, sending;
uint64_t began;

void prepare_payloads(void) {
    for (size_t i = 0; i < sizeof filler; i++) filler[i] = alphabet[i % FILLER_PERIOD];
}

int senders(void) { return opt.both_ways ? device_count : opt.pairs; }

struct device *sender(uint64_t turn) { return &devices[opt.both_ways ? turn : 2 * turn]; }

/* When the next payload of this device is due, in open loop: the senders take turns. */
static uint64_t due_time(const struct device *d) {
    int turn = opt.both_ways ? 2 * d->pair + d->side : d->pair;
    double index = (double)d->sent * senders() + turn;
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

static void make(struct device *d, uint64_t due) {
    size_t after = strlen(dialect->tail), size = d->head_length + (size_t)opt.size + after;
    if (dialect->number) dialect->number(d);
    uint8_t *whole = frame(d, dialect->opcode, size), *p = whole;
    memcpy(p, d->head, d->head_length);
    write_hex(p += d->head_length, NUMBER, d->sent);
    write_hex(p += NUMBER, TIME, due);
    memcpy(p += TIME, filler + d->sent % FILLER_PERIOD, (size_t)opt.size - STAMP);
    memcpy(p + opt.size - STAMP, dialect->tail, after);
    mask(whole, size);
    if (++d->sent > d->made) d->made = d->sent;
}

void send_owed(struct device *d) {
    uint64_t time = now();
    while (d->owed && unsent(d) < OUTBOX) {
        uint64_t due = opt.rate > 0 ? due_time(d) : time;
        if (measuring) record(&lateness, time > due ? time - due : 0);
        make(d, due);
        d->owed--;
    }
}

void rewind_to(struct device *d, uint64_t number) {
    if (number < d->sent) {
        d->owed += d->sent - number;
        d->sent = number;
        touch(d);
    }
}

/* Mark a number as seen; give whether it was. */
static bool mark(struct device *d, uint64_t number) {
    size_t place = number / 8;
    if (place >= d->seen_capacity) {
        size_t capacity = 2 * place + 1024;
        d->seen = enough(d->seen, capacity);
        memset(d->seen + d->seen_capacity, 0, capacity - d->seen_capacity);
        d->seen_capacity = capacity;
    }
    uint8_t bit = (uint8_t)(1 << number % 8), before = d->seen[place];
    d->seen[place] |= bit;
    return before & bit;
}

void on_payload(struct device *d, const uint8_t *p, size_t size, uint64_t time) {
    uint64_t number, due, freed = 0;
    struct device *from = d->peer;
    const uint8_t *body = p + d->received_head_length;
    const char *end = dialect->received_tail ? dialect->received_tail : dialect->tail;
    size_t after = strlen(end);
    account.received++;
    d->unacked++;
    if (size != d->received_head_length + (size_t)opt.size + after || memcmp(p, d->received_head, d->received_head_length) ||
        memcmp(body + opt.size, end, after) || !read_hex(body, NUMBER, &number) ||
        !read_hex(body + NUMBER, TIME, &due) || due > time || number >= from->made ||
        memcmp(body + STAMP, filler + number % FILLER_PERIOD, (size_t)opt.size - STAMP)) {
        account.damaged++;
        number = d->next; /* it stands for the one that was expected */
        due = time;
    }
    if (mark(d, number)) {
        account.repeated++;
        return;
    }
    d->received++;
    if (number < d->next) {
        account.reordered++;
    } else {
        freed = number + 1 - d->next;
        d->next = number + 1;
    }
    if (measuring) record(&latencies, time - due);
    if (sending && opt.rate <= 0 && freed) {
        from->owed += freed;
        touch(from);
    }
}

uint64_t count_lost(void) {
    account.lost = 0;
    for (int i = 0; i < device_count; i++) account.lost += devices[i].made - devices[i].peer->received;
    return account.lost;
}
