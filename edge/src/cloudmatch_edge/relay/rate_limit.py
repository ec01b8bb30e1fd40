"""How often a device may ask for what costs the pool something. No clock here: `now` in seconds."""

RATE = 5.0  # a second, over time
BURST = 20.0  # at once


class Allowance:
    """A token bucket."""

    def __init__(self) -> None:
        self._left = BURST
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Use one up; False when none is left."""
        self._left = min(BURST, self._left + (now - self._at) * RATE)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
