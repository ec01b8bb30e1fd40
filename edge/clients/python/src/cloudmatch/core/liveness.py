"""Whether a connection is alive: a silence calls for a ping, a second one means that the connection is dead.

Times are seconds of any clock that does not go back.
"""

SILENCE = 15.0  # s without a frame, before the ping and after it


class Liveness:
    """The frames of one connection after another, as signs of life."""

    def __init__(self) -> None:
        self.last_frame_at = 0.0
        self.dead = False
        self._probing = False  # a ping is unanswered

    def connect(self) -> None:
        """Start a new connection."""
        self.dead = False

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
        return self.last_frame_at + (2 * SILENCE if self._probing else SILENCE)

    def check(self, now: float) -> bool:
        """Return whether to send a ping; after a second silence set `dead`."""
        if now < self.last_frame_at + SILENCE:
            return False
        self.dead = self._probing and now >= self.last_frame_at + 2 * SILENCE
        ping, self._probing = not self._probing, True
        return ping
