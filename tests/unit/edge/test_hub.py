"""Which facts a hub publishes about its connections, with a bus and match-engine that the test plays."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from cloudmatch_bus.contract.claims import requests_on
from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    AnyFact,
    DeviceConnected,
    DeviceGone,
    DeviceLeft,
    DeviceReplaced,
    DeviceWaiting,
    encode,
)
from cloudmatch_bus.contract.request_batches import AnswerBatch, RequestBatch
from cloudmatch_edge.bus.hub import Hub
from cloudmatch_edge.dialects.parameters import Parameters
from cloudmatch_journal.core.ledger import Ledger
from harness import eventually
from unit.edge.fakes import APP, DEVICE, EDGE, FakeSocket, v1

DAY = 24 * 3600 * 10**6  # µs


class PlayedBus:
    """A bus whose requests are answered by what the test has prepared, the last of it for ever."""

    def __init__(self, *answers: AnyAnswer) -> None:
        self.on_reconnect: list[Any] = []
        self.asked: list[int] = []  # ids of the connections that asked
        self._answers = list(answers)
        self._tasks: list[asyncio.Task[Any]] = []

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    def publish(self, *_: object) -> bool:
        return True

    async def request(self, subject: str, payload: bytes, _: float) -> bytes:
        batch = requests_on(subject, payload)
        assert isinstance(batch, RequestBatch)
        answers = []
        for request in batch.requests:
            self.asked.append(request.connection_id)
            answers.append(self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])
        return encode(AnswerBatch(answers=answers))


class PlayedPublisher:
    """A stream of facts."""

    def __init__(self) -> None:
        self.facts: list[AnyFact] = []

    def publish(self, fact: AnyFact) -> bool:
        self.facts.append(fact)
        return True


def joined(bus: Any, publisher: Any) -> tuple[Hub, Any]:
    hub = Hub(bus, EDGE, publisher, patience=60, grace=30)
    return hub, hub.join(Parameters(DEVICE, 0, 0, APP), FakeSocket(), v1(), "token")


def connections_open(*facts: AnyFact) -> int:
    ledger = Ledger()
    for position, fact in enumerate(facts, 1):
        ledger.fold(position, fact)
    state = ledger.device(APP, DEVICE)
    assert state is not None
    return state.connections_open


async def test_a_device_that_comes_from_an_edge_whose_clock_is_ahead_is_known_as_connected() -> None:
    before = time.time_ns() // 1000 + DAY
    bus, publisher = (
        PlayedBus(DeviceReplaced(connection_id=1, by=before), DeviceWaiting(connection_id=1, since=1)),
        PlayedPublisher(),
    )
    hub, device = joined(bus, publisher)
    await eventually(lambda: len(bus.asked) == 2)
    ids = [fact.connection_id for fact in publisher.facts if isinstance(fact, DeviceConnected)]
    assert ids == bus.asked
    assert ids[0] < before < ids[1]
    there: dict[str, Any] = {"app": APP, "at": 0, "device": DEVICE, "edge": "edge-z", "connection_id": before}
    elsewhere = [DeviceConnected(lat=0, lon=0, **there), DeviceLeft(code=1000, **there)]
    assert connections_open(elsewhere[0], *publisher.facts, elsewhere[1]) == 1
    assert connections_open(*publisher.facts, *elsewhere) == 1
    hub.leave(device, 1000)
    assert connections_open(*elsewhere, *publisher.facts) == 0


async def test_a_connection_that_enters_the_pool_again_is_known_by_its_new_id() -> None:
    bus, publisher = PlayedBus(DeviceGone(connection_id=1)), PlayedPublisher()
    hub, device = joined(bus, publisher)
    first = device.connection_id
    hub.rejoin(device)
    assert [fact.connection_id for fact in publisher.facts] == [first, device.connection_id]  # type: ignore[union-attr]
    assert first < device.connection_id


async def test_a_connection_read_late_does_not_replace_one_that_its_client_asked_for_later() -> None:
    bus, publisher = PlayedBus(DeviceWaiting(connection_id=1, since=1)), PlayedPublisher()
    hub, live = joined(bus, publisher)
    late = hub.join(Parameters(DEVICE, 0, 0, APP), FakeSocket(), v1(), "token", waited=3.0)
    assert (late.replaced, live.replaced, hub.connected) == (True, False, 1)
    assert late.connection_id < live.connection_id
    hub.leave(late, 4001)
    assert hub.connected == 1
    live.disconnect()
    later = hub.join(Parameters(DEVICE, 0, 0, APP), FakeSocket(), v1(), "token", waited=3.0)
    assert not later.replaced, "there is none but this one"
    assert later.connection_id > live.connection_id


async def test_a_connection_is_named_by_when_its_client_asked_for_it() -> None:
    bus, publisher = PlayedBus(DeviceWaiting(connection_id=1, since=1)), PlayedPublisher()
    hub = Hub(bus, EDGE, publisher, patience=60, grace=30)  # type: ignore[arg-type]
    before = time.time_ns() // 1000
    device = hub.join(Parameters(DEVICE, 0, 0, APP), FakeSocket(), v1(), "token", waited=3.0)
    assert before - 3_000_000 <= device.connection_id <= time.time_ns() // 1000 - 3_000_000
