/* Connections of devices: WebSocket frames in and out, one loop for all. */
#ifndef FRAMES_H
#define FRAMES_H

#include "device.h"

extern struct device *devices;
extern int device_count;
extern uint64_t reconnects, last_arrival;

/* Make the loop; a lost connection is restored if `reconnecting`, and ends the process otherwise. */
void prepare_frames(bool reconnecting);

/* Connect a device and ask for its WebSocket. */
void connect_device(struct device *);

/* Break the connection of a device; it reconnects after a while. */
void cut(struct device *);

/* Have `what` called whenever a file is readable. */
void watch_file(int fd, void (*what)(void));

/* One turn of the loop: all that has come in, then one write for each device that has something to send.
   Return whether `until` has not come yet. */
bool turn(uint64_t until);

/* Add a frame with `size` bytes of payload; give the place of the payload, to be filled and masked. */
uint8_t *frame(struct device *, int opcode, size_t size);
void mask(uint8_t *, size_t size);
size_t unsent(const struct device *);

/* The device has something to send in this turn. */
void touch(struct device *);

/* Close all connections and wait, with a deadline, for the servers to answer. */
void close_all(void);

#endif
