"""Whether a reader gets anywhere while it has something to read. Pure: the time is passed in."""

PATIENCE = 11.0  # s without progress: a fact comes again within 5 s, after a failure within another 5


class Progress:
    """Observations of what is left to do, and of how far the work has got."""

    def __init__(self) -> None:
        self.work = 0
        self._place: object = None
        self._since = 0.0

    def observe(self, work: int, place: object, now: float) -> None:
        """Note that `work` is left, and that it has got to `place`."""
        if not work or place != self._place:
            self._place, self._since = place, now
        self.work = work

    def stalled(self, now: float) -> float | None:
        """Return for how many s there has been no progress, if that is longer than it may take."""
        idle = now - self._since
        return idle if self.work and idle > PATIENCE else None
