/* Payloads: made, sent, and accounted for. */
#ifndef PAYLOADS_H
#define PAYLOADS_H

#include "device.h"

extern struct histogram latencies; /* from when a payload was due to when it was read */
extern struct histogram lateness;  /* from when it was due to when it was written: caused by this process */
extern struct account {
    uint64_t received, lost, repeated, reordered, damaged;
} account;
extern bool measuring, sending;
extern uint64_t began; /* when sending began */

void prepare_payloads(void);

int senders(void);
struct device *sender(uint64_t turn);

/* Make the frames of all payloads that a device owes and has room for. */
void send_owed(struct device *);

/* Count what has not arrived; return how many are in transit, or lost. */
uint64_t count_lost(void);

#endif
