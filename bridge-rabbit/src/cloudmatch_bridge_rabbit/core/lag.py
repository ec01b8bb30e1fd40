"""How far one message per payload lies behind the facts."""


class Lag:
    """What a consumer of EVENTS has yet to publish. Times: s since 1970."""

    def __init__(self) -> None:
        self.pending = 0  # facts that are not acknowledged
        self._since: float | None = None  # everything the stream had at that time is published
        self._held = False

    def begin(self, stored: float) -> None:
        """Facts are about to be published, the oldest of which the stream got at `stored`."""
        if not self._held:
            self._since = stored
        self._held = True

    def end(self, stored: float) -> None:
        """They are published, up to the one that the stream got at `stored`."""
        self._held, self._since = False, stored

    def observe(self, pending: int, now: float) -> None:
        """The server says how many facts are not acknowledged."""
        self.pending = pending
        if self._since is None or (pending == 0 and not self._held):
            self._since = now

    def age(self, now: float) -> float:
        """Return the age of the oldest fact that is not published, in s; 0 if there is none."""
        if self._since is None or not (self._held or self.pending):
            return 0.0
        return max(0.0, now - self._since)
