"""Ms since 1970 that no step of the wall clock moves.

A wall clock may jump by days, and back; windows that closed in the meantime would be closed too early. So
time goes on by the monotonic clock, and approaches a wall clock that is near it. A step of the wall clock is
believed only once messages, whose times come from other machines, have agreed with it for a minute.
"""

NEAR = 1_000  # ms between both clocks within which it is no step
SLEW = 20  # a clock that is near is approached by a 20th of the time that passes
AGREES = 5_000  # ms around a clock within which the time of a message agrees with it
BELIEVED = 60_000  # ms for which messages must agree with a step


class SteadyClock:
    """What to add to the monotonic clock. All times are in ms, those of the wall clock since 1970.

    Args:
        offset: of a clock that continues another one.
    """

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self._read: int | None = None  # the monotonic clock when the wall clock was last compared
        self._agreed: int | None = None  # since then messages agree with the step
        self.step = 0  # by how much the wall clock is ahead, if that is a step

    def follow(self, wall: int, monotonic: int, newest: int | None = None) -> bool:
        """Compare the clocks, given the newest time in messages; return whether a step was believed."""
        ahead = wall - monotonic - self.offset
        passed = 0 if self._read is None else monotonic - self._read
        self._read = monotonic
        if abs(ahead) <= NEAR:
            self.step, self._agreed = 0, None
            most = passed // SLEW
            self.offset += max(-most, min(most, ahead))
            return False
        if abs(ahead - self.step) > NEAR:
            self.step, self._agreed = ahead, None
        if newest is not None:
            self._hear(newest - monotonic - self.offset, monotonic)
        if self._agreed is None or monotonic - self._agreed < BELIEVED:
            return False
        self.offset += ahead
        self.step, self._agreed = 0, None
        return True

    def _hear(self, ahead: int, monotonic: int) -> None:
        """Weigh a message that is so far ahead of this clock; what agrees with neither clock says nothing."""
        if abs(ahead - self.step) < min(abs(ahead), AGREES):
            self._agreed = monotonic if self._agreed is None else self._agreed
        elif abs(ahead) <= AGREES:
            self._agreed = None


class MessageTimes:
    """The times of messages that arrived between two comparisons of clocks. Times: ms since 1970."""

    def __init__(self) -> None:
        self.ahead = 0  # payloads whose time is ahead of the clock
        self.furthest = 0  # ms by which that of one is ahead
        self._newest: int | None = None  # of the times that are not ahead
        self._newest_ahead: int | None = None

    def add(self, at: int, payloads: int, now: int) -> None:
        """Add the time of a message that arrived at `now`."""
        if at <= now + NEAR:
            self._newest = max(at, self._newest or 0)
        else:
            self.ahead += payloads
            self.furthest = max(at - now, self.furthest)
            self._newest_ahead = max(at, self._newest_ahead or 0)

    @property
    def newest(self) -> int | None:
        """The newest time, one that is not ahead if there is one; None without messages."""
        return self._newest_ahead if self._newest is None else self._newest
