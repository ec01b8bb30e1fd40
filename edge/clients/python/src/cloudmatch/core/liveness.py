"""Whether a connection is alive: a silence calls for a ping, a second one means that the connection is dead.

Both together take at most a third of the session's grace: the rest of it is left to connect elsewhere.

Times are seconds of any clock that does not go back.
"""

SILENCE = 15.0  # s without a frame, before the ping and after it, at most
SILENCE_MIN = 1.0  # s
PATIENCE = 3  # how much longer a silence may be after a connection that was dead as soon as it was made


class Liveness:
    """The frames of one connection after another, as signs of life."""

    def __init__(self) -> None:
        self.last_frame_at = 0.0
        self.dead = False
        self._probing = False  # a ping is unanswered
        self._silence = SILENCE  # s
        self._patience = 1
        self._welcomed_at = 0.0

    def connect(self) -> None:
        """Start a new connection."""
        self.dead = False

    def welcome(self, now: float, grace: float, heartbeat: float | None) -> None:
        """Take what the server has told: the grace, and the interval of its pings, if it is known."""
        told = min(SILENCE, grace / 6 or SILENCE, heartbeat or SILENCE)
        self._silence = max(SILENCE_MIN, told) * self._patience
        self._welcomed_at = now

    def disconnect(self) -> None:
        """Forget an unanswered ping."""
        self._probing = False

    def on_frame(self, now: float) -> None:
        """Count any frame as a sign of life."""
        self.last_frame_at, self._probing = now, False

    @property
    def deadline(self) -> float | None:
        """When to call `check`."""
        if self.dead:
            return None
        return self.last_frame_at + (2 * self._silence if self._probing else self._silence)

    def check(self, now: float) -> bool:
        """Return whether to send a ping; after a second silence set `dead`."""
        if now < self.last_frame_at + self._silence:
            return False
        self.dead = self._probing and now >= self.last_frame_at + 2 * self._silence
        if self.dead:  # at once: perhaps a large payload was on its way over a slow link
            at_once = now < self._welcomed_at + 3 * self._silence
            self._patience = PATIENCE if at_once else 1
        ping, self._probing = not self._probing, True
        return ping
