"""Requests that wait until a worker has a hand free: few at a time, the newest of each connection.

Newcomers go first, and departures never take all hands, nor are they left without any. A request that is
repeated while it waits takes the place of the earlier one, whose reply nobody awaits any more. What has
waited for longer than its edge does is dropped: the edge repeats it.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from cloudmatch_bus.contract.messages import AnyAnswer, AnyRequest, LeaveMatch, SeekPartner

IN_PROGRESS = 64  # requests at most
DEPARTURES = 8, 32  # of them departures, if as many wait: at least, at most
LIMIT = 20_000  # requests that wait, at most

Key = tuple[str, str, str, int, str, int]
Answered = Callable[[AnyAnswer | None], object]  # None: not carried out


class Pending(NamedTuple):
    """A request, until when its edge waits (s), and what is called with its answer."""

    request: AnyRequest
    deadline: float
    answered: Answered

    @property
    def departure(self) -> bool:
        """Whether newcomers go first."""
        return not isinstance(self.request, SeekPartner)


def _key(request: AnyRequest) -> Key:
    """What a request and its repetitions have in common."""
    match = request.match if isinstance(request, LeaveMatch) else 0
    kind = str(request.__struct_config__.tag)
    return request.app, request.device, request.edge, request.connection_id, kind, match


class Backlog:
    """The requests of one worker. Times are s, of its own clock, which only grows."""

    def __init__(self) -> None:
        self._newcomers: dict[Key, Pending] = {}
        self._departures: dict[Key, Pending] = {}
        self._in_progress = {True: 0, False: 0}  # departures, newcomers

    def __len__(self) -> int:
        return len(self._newcomers) + len(self._departures)

    def add(self, request: AnyRequest, now: float, patience: float, answered: Answered) -> None:
        """Queue a request whose edge waits `patience` seconds."""
        pending = Pending(request, now + patience, answered)
        waiting, key = self._waiting(departure=pending.departure), _key(request)
        earlier = waiting.get(key)
        if earlier is None and len(self) >= LIMIT:
            answered(None)
            return
        waiting[key] = pending
        if earlier is not None:
            earlier.answered(None)

    def _waiting(self, *, departure: bool) -> dict[Key, Pending]:
        return self._departures if departure else self._newcomers

    def take(self, now: float) -> Pending | None:
        """Return the next request to carry out, if there is one and a hand free; then call `done`."""
        for departure in self._order():
            waiting = self._waiting(departure=departure)
            while waiting:
                pending = waiting.pop(next(iter(waiting)))
                if now < pending.deadline:
                    self._in_progress[departure] += 1
                    return pending
                pending.answered(None)
        return None

    def _order(self) -> Iterator[bool]:
        """Whether the next is a departure, in order of preference."""
        departing = self._in_progress[True]
        if departing + self._in_progress[False] >= IN_PROGRESS:
            return
        fewest, most = DEPARTURES
        if departing < fewest:
            yield True
        yield False
        if fewest <= departing < most:
            yield True

    def done(self, pending: Pending) -> None:
        """Note that a request was carried out, or failed."""
        self._in_progress[pending.departure] -= 1
