"""The seeded schedule that decides at every await which process runs next, and what fails meanwhile."""

import random
from collections.abc import Callable

from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    AnyFact,
    DeviceRecord,
    DeviceReplaced,
    MatchEnded,
    MatchMade,
    Tombstone,
)
from cloudmatch_match_engine.core import matcher
from simulation.bucket import CommitChecker, SteppedBucket
from simulation.clocks import GraceChecker, WrongClock
from simulation.pairing_edges import Connection, Edge, PendingRequest
from simulation.pairing_workers import Task, Worker
from simulation.steps import Call, MirrorWait

LONGEST = 5.0  # s of grace
# Latitudes; some are in reach of one between them but not of each other.
LATITUDES = (0.0, 0.1, 0.9, 1.8)


class PairingWorld:
    """All processes. `step` runs one of them; `settle` ends all failures and runs the rest of the work."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311  # a schedule, no secret
        self.now = 0.0  # s
        self.bucket = SteppedBucket()
        self.commits = CommitChecker(self.bucket)
        self.bucket.on_commit += [self.commits.check, GraceChecker(self.bucket, lambda: self.now).check]
        self.workers: list[Worker] = []
        self.edges = [Edge(name) for name in ("e1", "e2", "e3")]
        # device → its last connection
        self.last: dict[str, Connection] = {}
        self.count = 0  # of connections and moves
        self.facts: dict[str, AnyFact] = {}
        self.start_worker()
        self.start_worker()

    def next_number(self) -> int:
        self.count += 1
        return self.count

    @property
    def connections(self) -> list[Connection]:
        return [c for edge in self.edges for c in edge.connections.values()]

    def holds(self, record: DeviceRecord) -> bool:
        """Whether the connection of a record is open."""
        edge = next(e for e in self.edges if e.name == record.edge)
        return (record.device, record.connection_id) in edge.connections

    def is_dead(self, record: DeviceRecord) -> bool:
        """Whether workers count the edge of a record as dead. A frozen one seems dead."""
        edge = next(e for e in self.edges if e.name == record.edge)
        return record.incarnation < edge.incarnation or edge.frozen

    # -- what can happen

    def start_worker(self) -> None:
        began = self.chance.random() * 1e6  # what its monotonic clock shows means nothing to others
        clock = WrongClock(self.chance, lambda: self.now)
        worker = Worker(self.bucket, clock, lambda: began + self.now, self.notify_device, self.publish_fact)
        self.workers.append(worker)

    def kill_worker(self) -> None:
        """As kill -9: tasks end where they are, calls are carried out or not, last messages may be lost."""
        worker = self.workers.pop(self.chance.randrange(len(self.workers)))
        for task in worker.tasks:
            if task.call and not task.call.performed and self.chance.random() < 0.5:
                task.perform()
            task.die()
        safe = max(0, len(worker.outbox) - (worker.sent - worker.flushed))
        for message in worker.outbox[: self.chance.randint(safe, len(worker.outbox))]:
            message()
        for other in self.workers:
            other.mirror.schedule_replay()

    def connect(self) -> None:
        """A device connects, again or for the first time; classic ones (lower case) have no session."""
        name = self.chance.choice("abcdWXYZ")
        edges = [e for e in self.edges if e.up and not e.frozen]
        if not edges:
            return
        edge, lat = self.chance.choice(edges), self.chance.choice(LATITUDES)
        last, connection_id = self.last.get(name), self.next_number()
        for old in list(edge.connections.values()):
            if old.name == name:
                # Its own edge does not need match-engine to find out.
                old.on_answer(DeviceReplaced(connection_id=old.connection_id))
        if name.islower():
            new = Connection(name, edge, connection_id, lat=lat, grace=0, token="")
        elif last is None or self.chance.random() < 0.2:
            grace = self.chance.choice((1.0, LONGEST))
            new = Connection(name, edge, connection_id, lat=lat, grace=grace, token=f"t{connection_id}")
        else:
            new = Connection(
                name, edge, connection_id, lat=lat, grace=last.grace, token=last.token, resume=True
            )
            new.location_version = self.chance.choice((0, last.location_version))
        self.last[name] = new
        new.enter()

    def disconnect(self) -> None:
        if connections := [c for c in self.connections if not c.edge.frozen]:
            connection = self.chance.choice(connections)
            if self.chance.random() < 0.4:
                connection.leave()
            else:
                connection.step_away()

    def change(self) -> None:
        """A device moves, or leaves its match."""
        if connections := [c for c in self.connections if not c.edge.frozen]:
            connection = self.chance.choice(connections)
            if connection.match is not None and self.chance.random() < 0.6:
                connection.unmatch()
            else:
                connection.move(self.chance.choice(LATITUDES), self.next_number())

    def trouble_edge(self) -> None:
        edge = self.chance.choice(self.edges)
        if not edge.up:
            edge.up = True
        elif edge.frozen:
            edge.thaw()
        elif self.chance.random() < 0.4:
            edge.die()
        else:
            edge.frozen = True

    def close_old(self, connection: Connection) -> None:
        """An edge ends a replaced connection in one of two ways."""
        if self.chance.random() < 0.5:
            connection.leave("replaced")
        else:
            connection.step_away()

    def renew(self, gone: Connection) -> None:
        """An edge finds that match-engine has removed an open connection: the device enters again."""
        connection_id = self.next_number()
        new = Connection(
            gone.name, gone.edge, connection_id, lat=gone.lat, grace=gone.grace, token=gone.token
        )
        del gone.edge.connections[gone.name, gone.connection_id]
        gone.open = False
        if self.last[gone.name] is gone:
            self.last[gone.name] = new
        new.enter()

    # -- messages

    def ask(self, request: PendingRequest) -> None:
        """An edge asks one of the workers."""
        attempt = request.attempt = object()
        worker = self.chance.choice(self.workers)

        def answered(answer: AnyAnswer) -> None:
            edge = request.connection.edge
            worker.send(lambda: self.deliver(edge, lambda: self.answer(request, attempt, answer)))

        worker.tasks.append(Task(worker, worker.handler.answer(request.request()), answered))

    def answer(self, request: PendingRequest, attempt: object, answer: AnyAnswer) -> None:
        if request.attempt is attempt and request in (pending := request.connection.edge.pending):
            pending.remove(request)
            if request.connection.open:
                request.connection.on_answer(answer)

    def notify_device(self, record: DeviceRecord | Tombstone, answer: AnyAnswer) -> None:
        edge = next(e for e in self.edges if e.name == record.edge)
        self.deliver(edge, lambda: edge.on_answer(record.device, answer))

    @staticmethod
    def deliver(edge: Edge, message: Callable[[], None]) -> None:
        """Deliver a message, unless the edge is down; a frozen one gets it later."""
        if edge.frozen or edge.inbox:
            edge.inbox.append(message)
        elif edge.up:
            message()

    def publish_fact(self, fact: AnyFact, key: str) -> None:
        self.facts.setdefault(key, fact)

    # -- the schedule

    def step(self, *, trouble: bool = True) -> bool:
        """Run one step; return whether any was possible."""
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
            if worker.facts:
                steps.append(lambda w=worker: w.facts.pop(0)())
            if worker.behind:
                steps.append(worker.apply_next)
        for edge in self.edges:
            if edge.up and not edge.frozen:
                steps += [lambda r=r: self.ask(r) for r in edge.pending if r.attempt is None]
                steps += [lambda i=edge.inbox: i.pop(0)() for _ in edge.inbox[:1]]
                for connection in edge.connections.values():
                    if connection.replaced:
                        steps.append(lambda c=connection: self.close_old(c))
                    elif connection.gone:
                        steps.append(lambda c=connection: self.renew(c))
        if trouble and self.chance.random() < 0.15:
            self.trouble()
        elif steps:
            self.chance.choice(steps)()
        return bool(steps)

    def trouble(self) -> None:
        """Let something happen that no process decides."""
        kind = self.chance.random()
        if kind < 0.2 and self.count < 40:
            self.connect()
        elif kind < 0.3:
            self.disconnect()
        elif kind < 0.38:
            self.change()
        elif kind < 0.48:
            self.trouble_edge()
        elif kind < 0.58:
            self.now += self.chance.random() * 0.6
            if self.chance.random() < 0.2:
                self.chance.choice(self.workers).clock.step()
        elif kind < 0.68:  # a worker starts its unasked work
            worker = self.chance.choice(self.workers)
            for key, work in worker.due(self.is_dead).items():
                worker.start(key, work)
        elif kind < 0.73:
            self.chance.choice(self.workers).restart_watch()
        elif kind < 0.8:  # requests time out
            for request in [r for e in self.edges for r in e.pending]:
                if request.attempt is not None and self.chance.random() < 0.3:
                    request.attempt = None
        elif kind < 0.9:  # JetStream does not answer, whether or not it has done what was asked
            tasks = [t for w in self.workers for t in w.tasks if t.call and not t.over]
            if tasks:
                self.chance.choice(tasks).resume(TimeoutError("no answer"))
        elif kind < 0.95:
            worker = self.chance.choice(self.workers)
            worker.frozen = not worker.frozen
        else:
            self.kill_worker()
            if len(self.workers) < 2 or self.chance.random() < 0.5:
                self.start_worker()

    def settle(self) -> None:
        """End all failures: requests are answered, messages arrive, graces end."""
        for edge in self.edges:
            edge.up = True
            if edge.frozen:
                edge.thaw()
        self.rest()
        for connection in self.connections:
            connection.seek()
        self.rest()
        assert not any(r.disconnected_at for r, _ in self.bucket.devices().values() if self.holds(r)), (
            "connected, but disconnected in the bucket"
        )
        end = self.now + LONGEST + 10
        while self.now < end:
            self.now += 1.5
            for worker in self.workers:
                for key, work in worker.due(self.is_dead).items():
                    worker.start(key, work)
            self.rest()

    def rest(self) -> None:
        for _ in range(20_000):
            quiet = not any(w.outbox or w.facts or any(not t.over for t in w.tasks) for w in self.workers)
            for request in [r for e in self.edges for r in e.pending]:  # their worker died
                if quiet and not any(e.inbox for e in self.edges):
                    request.attempt = None
            if not self.step(trouble=False) and not any(e.pending for e in self.edges):
                return
        raise AssertionError("there is always something left to do")

    # -- invariants

    def check(self) -> None:
        """After `settle`: bucket, edges and facts agree, and no two devices wait in reach of each other."""
        devices = self.bucket.devices()
        present = {c.name: c for c in self.connections}
        assert len(present) == len(self.connections), "two open connections of one device"
        assert set(devices) == set(present), "in the pool but not connected, or the reverse"
        assert not [r for r, _ in devices.values() if r.disconnected_at is not None], (
            "connected, but disconnected in the bucket"
        )
        waiting = [record for record, _ in devices.values() if record.match is None]
        for a in waiting:
            for b in waiting:
                assert not matcher.suits(a, b), f"{a.device} and {b.device} wait in reach of each other"
        for name, connection in present.items():
            record = devices[name][0]
            assert (record.edge, record.connection_id) == (connection.edge.name, connection.connection_id)
            assert (record.match, record.peer) == (connection.match, connection.peer), (
                f"{name} was not notified"
            )
            if record.peer is not None:
                peer = devices[record.peer][0]
                assert connection.peer_at == (peer.connection_id, peer.edge), (
                    f"{name} has the wrong address of its peer"
                )
        made = {f.match for f in self.facts.values() if isinstance(f, MatchMade)}
        ended = {f.match for f in self.facts.values() if isinstance(f, MatchEnded)}
        assert made == set(self.commits.ever_paired), "matches without a fact"
        assert ended == made - set(self.bucket.pairs()), "ended matches without a fact"
