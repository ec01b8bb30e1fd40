"""Commands for people: the tracer and the keys."""
