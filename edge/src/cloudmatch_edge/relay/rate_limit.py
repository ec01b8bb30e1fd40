"""A limit on commands of a device that cost the pool something. No clock here: `now` in seconds."""

RATE = 5.0  # commands per second, over time
BURST = 20.0  # commands at once


class TokenBucket:
    """A token bucket."""

    def __init__(self) -> None:
        self._tokens = BURST
        self._at = 0.0

    def acquire(self, now: float) -> bool:
        """Use a token; return False if none is left."""
        self._tokens = min(BURST, self._tokens + (now - self._at) * RATE)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
