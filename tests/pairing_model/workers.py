"""Workers: the real engine, each with a mirror of its own, and what they have said that is on the way."""

from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from cloudmatch_bus.client.bucket import ConflictError
from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    AnyFact,
    DeviceRecord,
    Tombstone,
    decode_device,
    decode_pair,
    decode_tombstone,
)
from cloudmatch_match_engine.core import matcher
from cloudmatch_match_engine.core.keys import device_id, parse_device
from cloudmatch_match_engine.core.roster import Roster
from cloudmatch_match_engine.pairing.handler import Pairing
from pairing_model.bucket import MemoryBucket
from pairing_model.steps import Call

Work = Callable[[], Coroutine[Any, Any, None]]
Tell = Callable[[DeviceRecord | Tombstone, AnyAnswer], None]


class Task:
    """What a worker does about one attempt of an edge, or unasked."""

    def __init__(
        self, worker: "Worker", coroutine: Coroutine[Any, Any, Any], answered: Callable[[Any], None]
    ) -> None:
        self._worker = worker
        self._coroutine = coroutine
        self._answered = answered
        # what it awaits; nothing yet: its request has not been looked at
        self.call: Call | None = None
        self.over = False
        self._said = 0  # by its worker, when it began to await

    def resume(self, outcome: object) -> None:
        """Go on to the next await."""
        try:
            if isinstance(outcome, Exception):
                self.call = self._coroutine.throw(outcome)
            else:
                self.call = self._coroutine.send(outcome)
            self._said = self._worker.said
        except StopIteration as end:
            self.over = True
            self._answered(end.value)
        except (TimeoutError, ConflictError):
            self.over = True  # the worker gives no answer

    def perform(self) -> None:
        """The server does what the task awaits. What the worker said before has reached it, too."""
        assert self.call is not None
        self._worker.sent = max(self._worker.sent, self._said)
        self.call.perform()

    def die(self) -> None:
        self.over = True
        self._coroutine.close()


class Worker:
    """A worker: its engine, its mirror of the bucket, and what it has said that is still on the way."""

    def __init__(
        self,
        bucket: MemoryBucket,
        clock: Callable[[], int],
        tell_device: Tell,
        tell_fact: Callable[[AnyFact, str], None],
    ) -> None:
        self.roster = Roster()
        self.tasks: list[Task] = []
        self.outbox: list[Callable[[], None]] = []
        self.facts: list[Callable[[], None]] = []  # that wait for JetStream; they die with the worker
        self.said = 0  # in all
        self.sent = 0  # how much of it is at the server, whatever happens to the worker
        self.frozen = False
        # what it does unasked
        self.begun: dict[Hashable, Task] = {}
        self._tell_device, self._tell_fact, self._clock = tell_device, tell_fact, clock
        self.pairing = Pairing(bucket, self.roster, self, clock=clock, reach=matcher.PLANAR_REACH)  # type: ignore[arg-type]  # it does what a bucket does
        self._bucket = bucket
        self._reached = 0
        self.restart_watch()
        while self.behind:
            self.hear_next()
        self.pairing.recent.doubt(clock())

    def say(self, words: Callable[[], None]) -> None:
        self.said += 1
        self.outbox.append(words)

    def edge(self, record: DeviceRecord | Tombstone, answer: AnyAnswer) -> None:
        self.say(lambda: self._tell_device(record, answer))

    def fact(self, fact: AnyFact, key: str) -> None:
        self.facts.append(lambda: self._tell_fact(fact, key))

    @property
    def behind(self) -> bool:
        return self._reached < self._bucket.last

    def restart_watch(self) -> None:
        """The watch lost something: all keys come again, in the order in which they were last written."""
        revisions = [entry.revision for entry in self._bucket.entries.values()]
        self._reached = 0 if revisions else self._bucket.last
        self._complete_at = self._bucket.last
        self.roster.restart()

    def hear_next(self) -> None:
        """The watch brings the next entry. While it replays, entries overwritten since then are left out."""
        if self._reached < self._complete_at:
            entries = sorted(self._bucket.entries.values(), key=lambda e: e.revision)
            entry = next(e for e in entries if e.revision > self._reached)
        else:
            entry = next(e for e in self._bucket.log if e.revision > self._reached)
        device = parse_device(entry.key)
        if device is not None:
            record = None if entry.value is None else decode_device(entry.value)
            self.roster.put(device, record, entry.revision)
        else:
            if entry.value is not None:
                self.pairing.recent.saw(decode_pair(entry.value), self._clock())
            elif entry.tombstone:
                self.pairing.recent.saw(decode_tombstone(entry.tombstone), self._clock())
            self.roster.advance(entry.revision)
        replayed = self._reached < self._complete_at <= entry.revision
        self._reached = entry.revision
        if replayed:
            self.roster.complete()
        self.pairing.mirror_moved()

    def due(self, lost: Callable[[DeviceRecord], bool]) -> dict[Hashable, Work]:
        """What it would do unasked now, if all of it fell to it."""
        found: dict[Hashable, Work] = {}
        for holder in self.roster.holders():
            for known in self.roster.held(holder):
                if lost(known.record):
                    device = device_id(known.record.app, known.record.device)
                    found[device] = lambda k=known: self.pairing.release(k, lost)
        for known in self.roster.disconnected():
            assert known.record.disconnected_at is not None
            if self._clock() - known.record.disconnected_at > known.record.grace * 1000:
                device = device_id(known.record.app, known.record.device)
                found[device] = lambda k=known: self.pairing.expire(k)
        for word in self.pairing.recent.due(self._clock()):
            found[word] = lambda word=word: self.pairing.tell_again(word)
        self.begun = {what: task for what, task in self.begun.items() if not task.over}
        return {what: work for what, work in found.items() if what not in self.begun}

    def begin(self, what: Hashable, work: Work) -> None:
        task = self.begun[what] = Task(self, work(), lambda _: None)
        self.tasks.append(task)
