"""Workers: the real engine, each with its own mirror and messages in transit."""

from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from cloudmatch_bus.client.bucket import ConflictError
from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    AnyFact,
    DeviceRecord,
    Tombstone,
)
from cloudmatch_match_engine.core import matcher
from cloudmatch_match_engine.core.keys import device_id
from cloudmatch_match_engine.core.roster import Roster
from cloudmatch_match_engine.pairing.handler import PairingHandler
from cloudmatch_match_engine.pairing.mirror import Mirror
from simulation.bucket import SteppedBucket
from simulation.clocks import WrongClock
from simulation.steps import Call

Work = Callable[[], Coroutine[Any, Any, None]]
Notify = Callable[[DeviceRecord | Tombstone, AnyAnswer], None]


class Task:
    """A worker's work on one attempt of an edge, or unasked."""

    def __init__(
        self, worker: "Worker", coroutine: Coroutine[Any, Any, Any], answered: Callable[[Any], None]
    ) -> None:
        self._worker = worker
        self._coroutine = coroutine
        self._answered = answered
        # what it awaits; None: it has not started
        self.call: Call | None = None
        self.over = False
        self._sent = 0  # by its worker, when it began to await

    def resume(self, outcome: object) -> None:
        """Run to the next await."""
        try:
            if isinstance(outcome, Exception):
                self.call = self._coroutine.throw(outcome)
            else:
                self.call = self._coroutine.send(outcome)
            self._sent = self._worker.sent
        except StopIteration as end:
            self.over = True
            self._answered(end.value)
        except (TimeoutError, ConflictError):
            self.over = True  # the worker does not answer

    def perform(self) -> None:
        """The server does what the task awaits; it has received all that the worker sent before."""
        assert self.call is not None
        self._worker.flushed = max(self._worker.flushed, self._sent)
        self.call.perform()

    def die(self) -> None:
        self.over = True
        self._coroutine.close()


class Worker:
    """A worker: its engine, its mirror of the bucket, and its messages in transit."""

    def __init__(
        self,
        bucket: SteppedBucket,
        clock: WrongClock,
        now: Callable[[], float],
        notify_device: Notify,
        publish_fact: Callable[[AnyFact, str], None],
    ) -> None:
        self.roster = Roster()
        self.tasks: list[Task] = []
        self.outbox: list[Callable[[], None]] = []
        self.facts: list[Callable[[], None]] = []  # not yet at JetStream; lost with the worker
        self.sent = 0  # messages in all
        self.flushed = 0  # how many of them the server has, whatever happens to the worker
        self.frozen = False
        # unasked work
        self.in_progress: dict[Hashable, Task] = {}
        self._notify_device, self._publish_fact = notify_device, publish_fact
        self.clock = clock
        self.mirror = Mirror(self.roster, now)
        self.handler = PairingHandler(bucket, self.mirror, self, clock=clock.ms, reach=matcher.PLANAR_REACH)  # type: ignore[arg-type]  # it behaves like a bucket
        self._bucket = bucket
        self._reached = 0
        self.restart_watch()
        while self.behind:
            self.apply_next()
        self.mirror.schedule_replay()

    def send(self, message: Callable[[], None]) -> None:
        self.sent += 1
        self.outbox.append(message)

    def notify(self, record: DeviceRecord | Tombstone, answer: AnyAnswer) -> None:
        self.send(lambda: self._notify_device(record, answer))

    def publish(self, fact: AnyFact, key: str) -> None:
        self.facts.append(lambda: self._publish_fact(fact, key))

    @property
    def behind(self) -> bool:
        return self._reached < self._bucket.last

    def restart_watch(self) -> None:
        """The watch lost an entry: it shows all keys again, in the order in which they were last written."""
        revisions = [entry.revision for entry in self._bucket.entries.values()]
        self._reached = 0 if revisions else self._bucket.last
        self._complete_at = self._bucket.last
        self.roster.restart()

    def apply_next(self) -> None:
        """The watch shows the next entry. While it replays, entries overwritten since then are left out."""
        if self._reached < self._complete_at:
            entries = sorted(self._bucket.entries.values(), key=lambda e: e.revision)
            entry = next(e for e in entries if e.revision > self._reached)
        else:
            entry = next(e for e in self._bucket.log if e.revision > self._reached)
        self.mirror.on_entry(entry)
        replayed = self._reached < self._complete_at <= entry.revision
        self._reached = entry.revision
        if replayed:
            self.roster.complete()

    def due(self, edge_is_dead: Callable[[DeviceRecord], bool]) -> dict[Hashable, Work]:
        """The unasked work that is due now, as if all devices fell to this worker."""
        found: dict[Hashable, Work] = {}
        for process in self.roster.edge_processes():
            for mirrored in self.roster.connected_to(process):
                if edge_is_dead(mirrored.record):
                    device = device_id(mirrored.record.app, mirrored.record.device)
                    found[device] = lambda m=mirrored: self.handler.release(m, edge_is_dead)
        for mirrored in self.roster.disconnected():
            if self.mirror.absent_for(mirrored.record) > mirrored.record.grace:
                device = device_id(mirrored.record.app, mirrored.record.device)
                found[device] = lambda m=mirrored: self.handler.expire(m)
        for event in self.mirror.due():
            found[event] = lambda event=event: self.handler.replay(event)
        self.in_progress = {key: task for key, task in self.in_progress.items() if not task.over}
        return {key: work for key, work in found.items() if key not in self.in_progress}

    def start(self, key: Hashable, work: Work) -> None:
        task = self.in_progress[key] = Task(self, work(), lambda _: None)
        self.tasks.append(task)
