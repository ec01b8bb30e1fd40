"""Facts that wait to be stored: for how long, and why. Pure: the time is passed in."""

PATIENCE = 5.0  # s without a fact that is stored while some wait


class Backlog:
    """What JetStream has not stored."""

    def __init__(self) -> None:
        self._since: float | None = None  # nothing was stored since, and some wait
        self._reason = ""
        self._said = False

    def wait(self, now: float) -> None:
        """A fact waits."""
        if self._since is None:
            self._since = now

    def refuse(self, reason: str) -> None:
        """JetStream does not store a fact now."""
        self._reason = reason

    def store(self, waiting: int, now: float) -> None:
        """A fact was stored; others wait."""
        self._since = now if waiting else None
        self._reason = ""

    def age(self, now: float) -> float:
        """Return for how many s facts wait of which none was stored; 0 if none waits."""
        return 0.0 if self._since is None else max(0.0, now - self._since)

    def problem(self, waiting: int, now: float) -> str | None:
        """Return why facts wait, if they have waited for long."""
        if self.age(now) <= PATIENCE:
            return None
        reason = self._reason or "no answer from JetStream"
        return f"{waiting} facts wait to be stored in EVENTS: {reason}"

    def news(self, waiting: int, now: float) -> str | None:
        """Return what to log: once that facts wait, once that they do not any more."""
        problem = self.problem(waiting, now)
        if (problem is not None) == self._said:
            return None
        self._said = problem is not None
        return problem or "facts are stored again"
