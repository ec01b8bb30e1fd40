"""Requests that wait until a worker has a hand free: few at a time, the newest of each connection.

Newcomers go first, and departures never take all hands, nor are they left without any. A request that is
repeated while it waits takes the place of the earlier one, whose reply nobody awaits any more. What has
waited for longer than its edge does is dropped: the edge repeats it.

The devices of one app on one edge are a group. Groups take turns, none takes all hands, and none fills the
queue: a crowd delays itself.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from cloudmatch_bus.contract.messages import AnyAnswer, AnyRequest, LeaveMatch, SeekPartner

IN_PROGRESS = 64  # requests at most
OF_GROUP_IN_PROGRESS = 48  # of them of one group, at most
DEPARTURES = 8, 32  # of them departures, if as many wait: at least, at most
LIMIT = 20_000  # requests that wait, at most
OF_GROUP = 2_000  # of them of one kind and group, at most; an edge has 64 under way

Group = tuple[str, str]  # app and edge
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


def _group(request: AnyRequest) -> Group:
    return request.app, request.edge


def _key(request: AnyRequest) -> Key:
    """What a request and its repetitions have in common."""
    match = request.match if isinstance(request, LeaveMatch) else 0
    kind = str(request.__struct_config__.tag)
    return request.app, request.device, request.edge, request.connection_id, kind, match


class _Waiting:
    """The requests of one kind that wait."""

    def __init__(self) -> None:
        self.count = 0
        # those with requests, in turn; each has its requests, oldest first
        self._groups: dict[Group, dict[Key, Pending]] = {}

    def full(self, group: Group) -> bool:
        """Whether a group has as many requests as it may have."""
        return len(self._groups.get(group, ())) >= OF_GROUP

    def get(self, group: Group, key: Key) -> Pending | None:
        """Return the request of a group that has this key."""
        return self._groups.get(group, {}).get(key)

    def put(self, group: Group, key: Key, pending: Pending) -> None:
        """Add a request, or put it in the place of the earlier one with its key."""
        requests = self._groups.setdefault(group, {})
        self.count += key not in requests
        requests[key] = pending

    def pop(self, may: Callable[[Group], bool]) -> Pending | None:
        """Remove the next request of a group that may have one carried out."""
        group = next(filter(may, self._groups), None)
        if group is None:
            return None
        requests = self._groups.pop(group)
        pending = requests.pop(next(iter(requests)))
        self.count -= 1
        if requests:
            self._groups[group] = requests  # others are next
        return pending


class Backlog:
    """The requests of one worker. Times are s, of its own clock, which only grows."""

    def __init__(self) -> None:
        self._waiting = {True: _Waiting(), False: _Waiting()}  # departures, newcomers
        self._in_progress = {True: 0, False: 0}
        self._of_group: dict[Group, int] = {}  # in progress

    def __len__(self) -> int:
        return sum(waiting.count for waiting in self._waiting.values())

    def add(self, request: AnyRequest, now: float, patience: float, answered: Answered) -> None:
        """Queue a request whose edge waits `patience` seconds."""
        pending = Pending(request, now + patience, answered)
        waiting, group, key = self._waiting[pending.departure], _group(request), _key(request)
        earlier = waiting.get(group, key)
        if earlier is None and (len(self) >= LIMIT or waiting.full(group)):
            answered(None)
            return
        waiting.put(group, key, pending)
        if earlier is not None:
            earlier.answered(None)

    def take(self, now: float) -> Pending | None:
        """Return the next request to carry out, if there is one and a hand free; then call `done`."""
        for departure in self._order():
            waiting = self._waiting[departure]
            while (pending := waiting.pop(self._may_begin)) is not None:
                if now < pending.deadline:
                    self._in_progress[departure] += 1
                    self._count(pending, 1)
                    return pending
                pending.answered(None)
        return None

    def _may_begin(self, group: Group) -> bool:
        return self._of_group.get(group, 0) < OF_GROUP_IN_PROGRESS

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
        self._count(pending, -1)

    def _count(self, pending: Pending, change: int) -> None:
        group = _group(pending.request)
        self._of_group[group] = self._of_group.get(group, 0) + change
        if not self._of_group[group]:
            del self._of_group[group]
