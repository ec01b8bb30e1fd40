"""Nonsense for edges: frames and bytes that no client of good will would send."""
