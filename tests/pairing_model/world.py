"""Workers, edges, and the schedule of chance that decides at every await who goes on."""

import random
from collections.abc import Callable, Coroutine
from typing import Any

from cloudmatch_bus.messages import (
    AnyAnswer,
    AnyFact,
    Departure,
    DevicePaired,
    DeviceRecord,
    DeviceReplaced,
    DeviceUnpaired,
    DeviceWaiting,
    LeavePool,
    MatchEnded,
    MatchMade,
    SeekPartner,
    decode_device,
)
from cloudmatch_match_engine import matcher
from cloudmatch_match_engine.keys import parse_device
from cloudmatch_match_engine.pairing import Pairing
from cloudmatch_match_engine.roster import Roster
from pairing_model.bucket import MemoryBucket
from pairing_model.steps import Call, MirrorWait

APP = "demo"


class Task:
    """What a worker does about one attempt of an edge."""

    def __init__(
        self,
        worker: "Worker",
        coroutine: Coroutine[Any, Any, AnyAnswer],
        answered: Callable[[AnyAnswer], None],
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
        except TimeoutError:
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

    def __init__(self, bucket: MemoryBucket, name: str) -> None:
        self.name = name
        self.roster = Roster()
        self.tasks: list[Task] = []
        self.outbox: list[Callable[[], None]] = []
        self.said = 0  # in all
        self.frozen = False
        self.sent = 0  # how much of it is at the server, whatever happens to the worker
        self.tell_device: Callable[[DeviceRecord | Departure, AnyAnswer], None]
        self.tell_fact: Callable[[AnyFact, str], None]
        self.pairing = Pairing(bucket, self.roster, self, clock=lambda: 0, reach=matcher.PLANAR_REACH)  # type: ignore[arg-type]  # it does what a bucket does
        self._bucket = bucket
        self._reached = 0
        self.restart_watch()
        while self.behind:
            self.hear_next()

    def say(self, words: Callable[[], None]) -> None:
        self.said += 1
        self.outbox.append(words)

    def edge(self, record: DeviceRecord | Departure, answer: AnyAnswer) -> None:
        self.say(lambda: self.tell_device(record, answer))

    def fact(self, fact: AnyFact, key: str) -> None:
        self.say(lambda: self.tell_fact(fact, key))

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
        if device is None:
            self.roster.advance(entry.revision)
        else:
            record = None if entry.value is None else decode_device(entry.value)
            self.roster.put(device, record, entry.revision)
        replayed = self._reached < self._complete_at <= entry.revision
        self._reached = entry.revision
        if replayed:
            self.roster.complete()
        self.pairing.mirror_moved()


class Connection:
    """A device's connection, as its edge knows it. Numbers order what it hears."""

    def __init__(self, name: str, edge: str, session: int, lat: float) -> None:
        self.name, self.edge, self.session, self.lat = name, edge, session, lat
        self.match: int | None = None
        self.peer: str | None = None
        self.heard = (0, False)  # a device waits since the number of the match that it then makes
        self.open = True  # the socket stands
        self.replaced = False
        self.unanswered = True  # what it asks now, to seek or to leave, has not been answered
        self.attempt: object = None  # the one under way

    def request(self) -> SeekPartner | LeavePool:
        if self.open:
            return SeekPartner(
                app=APP, device=self.name, edge=self.edge, session=self.session, lat=self.lat, lon=0
            )
        return LeavePool(
            app=APP,
            device=self.name,
            edge=self.edge,
            session=self.session,
            match=self.match,
            peer=self.peer,
        )

    def leave(self) -> None:
        """The socket ends: what was asked before is not awaited any more, but may still be carried out."""
        self.open, self.unanswered, self.attempt = False, True, None

    def hear(self, answer: AnyAnswer) -> None:
        match answer:
            case DevicePaired() if (answer.match, True) > self.heard:
                self.match, self.peer, self.heard = answer.match, answer.peer, (answer.match, True)
            case DeviceWaiting() if (answer.since, False) > self.heard:
                self.match, self.peer, self.heard = None, None, (answer.since, False)
            case DeviceUnpaired() if answer.match == self.match:
                self.match, self.peer = None, None
            case DeviceReplaced():
                self.replaced = True
            case _:
                pass


class World:
    """All of it. `do` is one step of chance; `settle` ends all failures and lets everything come to rest."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311  # a schedule, no secret
        self.bucket = MemoryBucket()
        self.bucket.watcher = self.look
        self.workers: list[Worker] = []
        self.connections: list[Connection] = []
        self.facts: dict[str, AnyFact] = {}
        self.ever_paired: dict[int, set[str]] = {}
        self.started = 0
        self.start_worker()
        self.start_worker()

    # -- what can happen

    def start_worker(self) -> None:
        self.started += 1
        worker = Worker(self.bucket, f"w{self.started}")
        worker.tell_device, worker.tell_fact = self.tell_device, self.tell_fact
        self.workers.append(worker)

    def kill_worker(self) -> None:
        """As kill -9: tasks end where they are, calls are carried out or not, the last words are lost."""
        worker = self.workers.pop(self.chance.randrange(len(self.workers)))
        for task in worker.tasks:
            if task.call and not task.call.performed and self.chance.random() < 0.5:
                task.perform()
            task.die()
        safe = max(0, len(worker.outbox) - (worker.said - worker.sent))
        for words in worker.outbox[: self.chance.randint(safe, len(worker.outbox))]:
            words()

    def connect(self) -> None:
        name = self.chance.choice("abcdefg")
        edge = self.chance.choice(("e1", "e2"))
        # Two places in reach of one between them, not of each other.
        lat = self.chance.choice((0.0, 0.1, 0.9, 1.8))
        session = len(self.connections) + 1
        for old in self.connections:
            if old.name == name and old.edge == edge and old.open:
                old.hear(DeviceReplaced(session=old.session))  # its own edge knows without being told
        self.connections.append(Connection(name, edge, session, lat))

    def disconnect(self) -> None:
        if standing := [c for c in self.connections if c.open]:
            self.chance.choice(standing).leave()

    def ask(self, connection: Connection) -> None:
        """An edge asks one of the workers."""
        attempt = connection.attempt = object()
        worker = self.chance.choice(self.workers)
        request = connection.request()

        def answered(answer: AnyAnswer) -> None:
            worker.say(lambda: self.answer(connection, attempt, answer))

        engine = worker.pairing
        work = engine.seek(request) if isinstance(request, SeekPartner) else engine.leave(request)
        worker.tasks.append(Task(worker, work, answered))

    def answer(self, connection: Connection, attempt: object, answer: AnyAnswer) -> None:
        if connection.attempt is attempt:
            connection.attempt, connection.unanswered = None, False
            if connection.open:
                connection.hear(answer)

    def tell_device(self, record: DeviceRecord | Departure, answer: AnyAnswer) -> None:
        """News for a device reach the edge that is named; it speaks up for a connection that is gone."""
        named = (record.device, record.edge, answer.session)
        for connection in self.connections:
            if connection.open and (connection.name, connection.edge, connection.session) == named:
                connection.hear(answer)
                return
        if not isinstance(answer, DeviceReplaced):
            gone = Connection(record.device, record.edge, answer.session, 0)
            gone.leave()
            self.ask(gone)

    def tell_fact(self, fact: AnyFact, key: str) -> None:
        self.facts.setdefault(key, fact)

    # -- the schedule

    def do(self, *, trouble: bool = True) -> bool:
        """Let one thing happen, if any can."""
        steps: list[Callable[[], object]] = []
        for worker in self.workers:
            worker.tasks = [t for t in worker.tasks if not t.over]
            steps += [task.perform for task in worker.tasks if task.call and not task.call.performed]
            if worker.frozen and trouble:
                continue
            for task in worker.tasks:
                match task.call:
                    case None:
                        steps.append(lambda t=task: t.resume(None))
                    case MirrorWait() as call if not call.future.done():
                        pass
                    case Call() as call if call.performed:
                        steps.append(lambda t=task, c=call: t.resume(c.outcome))
            if worker.outbox:
                steps.append(lambda w=worker: w.outbox.pop(0)())
            if worker.behind:
                steps.append(worker.hear_next)
        steps += [lambda c=c: self.ask(c) for c in self.connections if c.unanswered and c.attempt is None]
        if trouble and self.chance.random() < 0.12:
            self.trouble()
        elif steps:
            self.chance.choice(steps)()
        return bool(steps)

    def trouble(self) -> None:
        """Let something happen that nobody asked for."""
        kind = self.chance.random()
        if kind < 0.3 and len(self.connections) < 16:
            self.connect()
        elif kind < 0.5:
            self.disconnect()
        elif kind < 0.6:
            self.chance.choice(self.workers).restart_watch()
        elif kind < 0.7:  # an edge loses patience
            for connection in self.connections:
                if connection.attempt is not None and self.chance.random() < 0.3:
                    connection.attempt = None
        elif kind < 0.85:  # JetStream does not answer, having done what was asked or not
            tasks = [t for w in self.workers for t in w.tasks if t.call and not t.over]
            if tasks:
                self.chance.choice(tasks).resume(TimeoutError("no answer"))
        elif kind < 0.92:
            worker = self.chance.choice(self.workers)
            worker.frozen = not worker.frozen
        else:
            self.kill_worker()
            if len(self.workers) < 2 or self.chance.random() < 0.5:
                self.start_worker()

    def settle(self) -> None:
        """No more trouble: all that edges still ask is answered, all that was said arrives."""
        for _ in range(20_000):
            for connection in self.connections:  # of those whose worker died
                busy = any(not t.over for w in self.workers for t in w.tasks)
                if connection.attempt is not None and not busy and not any(w.outbox for w in self.workers):
                    connection.attempt = None
                if connection.replaced and connection.open:
                    connection.leave()
            if not self.do(trouble=False) and all(c.attempt is None for c in self.connections):
                return
        raise AssertionError("it never comes to rest")

    # -- what must hold

    def look(self) -> None:
        """At every commit: a device is in at most one match, and a match has both its devices."""
        devices, pairs = self.bucket.devices(), self.bucket.pairs()
        members: dict[int, set[str]] = {}
        for name, (record, _) in devices.items():
            if record.match is not None:
                members.setdefault(record.match, set()).add(name)
                assert record.peer is not None
                assert devices[record.peer][0].peer == name
        assert members == pairs
        assert all(len(m) == 2 for m in pairs.values())
        for match, both in pairs.items():
            assert self.ever_paired.setdefault(match, both) == both, "a number named two matches"

    def check(self) -> None:
        """When all has come to rest."""
        devices = self.bucket.devices()
        standing = [c for c in self.connections if c.open]
        present = {c.name: c for c in standing}
        assert len(present) == len(standing), "two connections of one device stand"
        assert set(devices) == set(present), "in the pool, but not connected; or the other way"
        waiting = [record for record, _ in devices.values() if record.match is None]
        for a in waiting:
            for b in waiting:
                assert not matcher.suits(a, b), f"{a.device} and {b.device} wait beside each other"
        for name, connection in present.items():
            record = devices[name][0]
            assert (record.edge, record.session) == (connection.edge, connection.session)
            assert (record.match, record.peer) == (connection.match, connection.peer), f"{name} was not told"
        made = {f.match for f in self.facts.values() if isinstance(f, MatchMade)}
        ended = {f.match for f in self.facts.values() if isinstance(f, MatchEnded)}
        assert made == set(self.ever_paired), "matches nobody heard of"
        assert ended == made - set(self.bucket.pairs()), "ends nobody heard of"
