/* WebSocket connections of all devices, served by one event loop. */
#ifndef FRAMES_H
#define FRAMES_H

#include "device.h"

extern struct device *devices;
extern int device_count;
extern uint64_t reconnects, last_arrival;

/* Create the loop. A lost connection is restored if `reconnecting`, and otherwise ends the process. */
void prepare_frames(bool reconnecting);

/* Connect a device and begin its handshake. */
void connect_device(struct device *);

/* Close a device's connection without a close frame; it reconnects after a pause. */
void cut_connection(struct device *);

/* Call `callback` whenever the file is readable. */
void watch_file(int fd, void (*callback)(void));

/* Run the loop once: read all that has arrived, then write once for each device with something to send.
   Return false when `until` is over. */
bool loop_once(uint64_t until);

/* Begin a frame with a payload of `size` bytes; return where the caller writes and masks that payload. */
uint8_t *begin_frame(struct device *, int opcode, size_t size);
void mask(uint8_t *, size_t size);

/* Bytes of frames that the socket has not accepted yet. */
size_t unsent_bytes(const struct device *);

/* Have the device flushed at the end of the current turn of the loop. */
void mark_dirty(struct device *);

/* Close all connections, and wait with a deadline for the servers' close frames. */
void close_all(void);

#endif
