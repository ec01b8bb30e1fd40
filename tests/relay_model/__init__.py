"""A seeded model of the relay: real relays of several edges and model devices that send, drop and return,
over a bus that delays, loses, repeats and reorders, in a time that jumps instead of passing."""
