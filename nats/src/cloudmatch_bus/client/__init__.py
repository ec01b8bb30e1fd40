"""The client of the bus: the only package that imports nats-py."""
