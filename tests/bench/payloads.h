/* Payloads: generated, sent and checked. */
#ifndef PAYLOADS_H
#define PAYLOADS_H

#include "device.h"

extern struct histogram latencies; /* from when a payload was due until it was read */
extern struct histogram lateness;  /* from when it was due until it was written: the generator's own delay */
extern struct check {
    uint64_t received, lost, repeated, reordered, damaged;
} check;
extern bool measuring, sending;
extern uint64_t began; /* when sending began */

void prepare_payloads(void);

int senders(void);
struct device *sender(uint64_t index);

/* Build frames for all payloads that a device has credit for, as far as its buffer allows. */
void spend_credit(struct device *);

/* Update check.lost and return it: the payloads that have not arrived, in flight or lost. */
uint64_t count_lost(void);

#endif
