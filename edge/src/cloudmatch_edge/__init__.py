"""The edge: relays payloads between the WebSockets of devices and NATS.

`sockets` and `bus` do the I/O; `relay` and `dialects` are pure.
"""
