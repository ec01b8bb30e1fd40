"""How far event time may be said to have come when no event says it.

A window closes when event time passes its end. Where nothing follows, event time stands still; so the
source sends ticks. While messages come, time is what the newest of them says: after an outage they are
old, and the wall clock would close their windows before they arrive. Only when the queue has been empty
for a while, time is the wall clock's.
"""

QUIET_MS = 500  # the queue counts as drained when it gave nothing for so long


class Ticker:
    """Follow the messages of one session with the broker."""

    def __init__(self, now: int) -> None:
        # the latest time that a message carried, ms since 1970; 0: none came
        self._latest = 0
        # when the last message came, or the session began
        self._heard = now

    def heard(self, at: int, now: int) -> None:
        """Note a message of the time `at` that came `now`."""
        self._latest = max(self._latest, at)
        self._heard = now

    def tick(self, now: int) -> int | None:
        """Give the time to tell downstream, None when there is none to tell."""
        if now - self._heard >= QUIET_MS:
            return now
        return self._latest or None
