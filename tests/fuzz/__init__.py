"""Fuzz an edge with frames and bytes that no well-behaved client would send."""
