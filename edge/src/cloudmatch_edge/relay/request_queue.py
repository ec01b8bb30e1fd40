"""Which requests to match-engine are sent next: few at a time, however many devices want something.

Requests wait in lanes, one for each partition, and are made when they are sent: what nobody wants any more by
then is not sent. Newcomers go first, but departures get a share. A lane whose requests nobody takes falls
silent. Silent lanes, and all lanes while nothing is answered anywhere, are asked by one request at a time, at
growing intervals; once it is answered, the rest follows.
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain

from cloudmatch_bus.contract.messages import AnyAnswer, AnyRequest

WINDOW = 64  # requests under way, at most
FIRST_WINDOW = 8  # the same in a lane of which nothing is known; each answer adds one
BATCH = 16  # requests in one message, at most
DEPARTURE_SHARE = 8  # each so-manieth request of a lane is a departure, if there is one
TIMEOUT = 2.0, 8.0  # s for an answer: at first, and at most; doubled with each repetition
SLOW = 4.0  # times as long as answers take of late, if that is longer
PAUSE = 0.1, 1.0  # s between two requests to whom nobody answers: the first, doubling, and the longest
QUIET = 1.0  # s without any answer, after which a failure is taken for everyone's


class Wanted:
    """A request that a device wants to be carried out.

    Args:
        lane: where it is sent (`subjects.match_lane`).
        make: makes it as of now; None: it is not wanted any more.
        done: called once, with the answer, or with None if it was not wanted any more.
        departure: whether newcomers may go first.
    """

    def __init__(
        self,
        lane: str,
        make: Callable[[], AnyRequest | None],
        done: Callable[[AnyAnswer | None], None],
        *,
        departure: bool,
    ) -> None:
        self.lane = lane
        self.make = make
        self.done = done
        self.departure = departure
        self.repetitions = 0


class Lane:
    """The requests to one partition."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.newcomers: deque[Wanted] = deque()
        self.departures: deque[Wanted] = deque()
        self.under_way = 0
        self.window = FIRST_WINDOW
        self.silent = False
        self.answered_at = 0.0
        self._sent = 0

    def __bool__(self) -> bool:
        return bool(self.newcomers or self.departures)

    def put_back(self, wanted: Wanted) -> None:
        """Let a request be the next of its kind."""
        (self.departures if wanted.departure else self.newcomers).appendleft(wanted)

    def pop(self) -> tuple[Wanted, AnyRequest] | None:
        """Remove and make the next request that is still wanted."""
        while self:
            self._sent += 1
            departure = self.departures and (not self.newcomers or self._sent % DEPARTURE_SHARE == 0)
            wanted = (self.departures if departure else self.newcomers).popleft()
            request = wanted.make()
            if request is not None:
                return wanted, request
            wanted.done(None)
        return None


class Message:
    """Requests of one lane that are sent together, and answered together.

    Args:
        timeout: s for their answer.
        requests: at least one, each with who wants it.
    """

    def __init__(
        self, lane: Lane, sent_at: float, timeout: float, requests: list[tuple[Wanted, AnyRequest]]
    ) -> None:
        self.lane = lane
        self.sent_at = sent_at
        self.timeout = timeout
        self.wanted = [wanted for wanted, _ in requests]
        self.requests = [request for _, request in requests]


class RequestQueue:
    """All requests of one edge. Times are s, of any clock that only grows.

    Args:
        chance: a random number from 0 to 1, for jitter.
    """

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._lanes: dict[str, Lane] = {}  # those with requests, waiting or under way; in turn
        self._under_way = 0
        self._latency = 0.0  # s, smoothed
        self._answered_at = float("-inf")
        self._absent = False  # nobody answers, as far as is known
        self._pause = PAUSE[0]
        self._ask_at = 0.0  # when silent lanes are asked next

    def __len__(self) -> int:
        return sum(len(lane.newcomers) + len(lane.departures) for lane in self._lanes.values())

    def add(self, wanted: Wanted) -> None:
        """Queue a request."""
        lane = self._lanes.get(wanted.lane)
        if lane is None:
            lane = self._lanes[wanted.lane] = Lane(wanted.lane)
        (lane.departures if wanted.departure else lane.newcomers).append(wanted)

    def next_at(self) -> float | None:
        """When `take` may have something that it does not have now, if nothing else happens."""
        waiting = any(lane and (lane.silent or self._absent) for lane in self._lanes.values())
        return self._ask_at if waiting else None

    def take(self, now: float) -> Message | None:
        """Return what to send now, if anything; to be called until there is nothing more."""
        for lane, most in self._choose(now):
            if (message := self._fill(lane, most, now)) is not None:
                lane.under_way += len(message.wanted)
                self._under_way += len(message.wanted)
                self._lanes[lane.name] = self._lanes.pop(lane.name)  # others are next
                if lane.silent or self._absent:
                    self._ask_later(now)
                return message
            self._tidy(lane)
        return None

    def _ask_later(self, now: float) -> None:
        self._ask_at = now + self._pause * (1 + self._chance()) / 2
        self._pause = min(2 * self._pause, PAUSE[1])

    def _choose(self, now: float) -> Iterator[tuple[Lane, int]]:
        """Lanes that may send, in order of preference, and how many requests."""
        free = WINDOW - self._under_way
        if free <= 0:
            return
        lanes = [lane for lane in self._lanes.values() if lane]
        speaking = [lane for lane in lanes if not lane.silent]
        if now >= self._ask_at:
            asked = chain(speaking, lanes) if self._absent else (lane for lane in lanes if lane.silent)
            yield from ((lane, 1) for lane in asked)
        if not self._absent:
            for lane in speaking:
                most = min(lane.window - lane.under_way, free)
                if most > 0:
                    yield lane, min(most, BATCH)

    def _fill(self, lane: Lane, most: int, now: float) -> Message | None:
        """Make a message of the next requests of a lane; None if none of them is still wanted."""
        requests: list[tuple[Wanted, AnyRequest]] = []
        while len(requests) < most and (popped := lane.pop()) is not None:
            requests.append(popped)
        if not requests:
            return None
        repetitions = max(wanted.repetitions for wanted, _ in requests)
        timeout = min(max(TIMEOUT[0], SLOW * self._latency) * 2.0 ** min(repetitions, 16), TIMEOUT[1])
        return Message(lane, now, timeout, requests)

    def _tidy(self, lane: Lane) -> None:
        if not lane and not lane.under_way:
            self._lanes.pop(lane.name, None)

    # -- what became of a message

    def answered(self, message: Message, answers: list[AnyAnswer | None], now: float) -> None:
        """Note the answers, in the order of the requests; None: not carried out, to be repeated."""
        if not any(answers):
            self.timed_out(message, now)  # match-engine is there, but cannot work
            return
        lane = self._return(message)
        if self._absent or lane.silent:
            self._pause, self._ask_at = PAUSE[0], now
        self._absent = lane.silent = False
        self._answered_at = lane.answered_at = now
        self._latency += (now - message.sent_at - self._latency) / 8
        if all(answers):
            lane.window = min(lane.window + len(message.wanted), WINDOW)
        else:
            lane.window = max(1, lane.window // 2)
        for wanted, answer in zip(message.wanted, answers, strict=True):
            if answer is None:
                self._repeat(lane, wanted)
            else:
                wanted.done(answer)
        self._tidy(lane)

    def not_taken(self, message: Message, now: float) -> None:
        """Note that nobody took a message."""
        lane = self._return(message)
        self._fall_silent(lane, now)
        for wanted in reversed(message.wanted):
            self._repeat(lane, wanted)

    def timed_out(self, message: Message, now: float) -> None:
        """Note that a message was not answered in time."""
        lane = self._return(message)
        lane.window = max(1, lane.window // 2)
        if lane.answered_at < message.sent_at:
            self._fall_silent(lane, now)
        for wanted in reversed(message.wanted):
            self._repeat(lane, wanted)

    def _return(self, message: Message) -> Lane:
        message.lane.under_way -= len(message.wanted)
        self._under_way -= len(message.wanted)
        return message.lane

    def _fall_silent(self, lane: Lane, now: float) -> None:
        lane.silent, lane.window = True, 1
        self._absent = self._absent or now - self._answered_at > QUIET
        if now >= self._ask_at:
            self._ask_later(now)

    @staticmethod
    def _repeat(lane: Lane, wanted: Wanted) -> None:
        wanted.repetitions += 1
        lane.put_back(wanted)
