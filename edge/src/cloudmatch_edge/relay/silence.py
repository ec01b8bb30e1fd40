"""For how long no payload has come in a match. No clock here: `now` in seconds."""


class Silence:
    """Counts of the payloads of one match, as it was looked at now and then."""

    def __init__(self) -> None:
        self._count: int | None = None
        self._since = 0.0

    def seconds(self, count: int | None, now: float) -> float:
        """Return for how long there were `count` payloads; 0 while none could come, for which it is None."""
        if count is None or count != self._count:
            self._count, self._since = count, now
        return now - self._since
