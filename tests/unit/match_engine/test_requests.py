"""Requests are answered one by one or in batches; those that fail are left to be repeated, and summed up."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import pytest

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    AnyRequest,
    DeviceGone,
    LeavePool,
    decode_answer,
    encode,
)
from cloudmatch_bus.contract.request_batches import RequestBatch, decode_answers
from cloudmatch_match_engine.core.backlog import DEPARTURES
from cloudmatch_match_engine.dropped import dropped
from cloudmatch_match_engine.requests import Requests

BATCH = subjects.match_batch(subjects.match_lane("demo", ""), "e")


class PlayedBus:
    """A bus that keeps what is published on it."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.tasks: list[asyncio.Task[Any]] = []

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    def publish(self, subject: str, payload: bytes) -> bool:
        self.published.append((subject, payload))
        return True

    async def rest(self) -> None:
        while not all(task.done() for task in self.tasks):
            await asyncio.gather(*self.tasks)


class Engine:
    """Answers all but the devices whose names begin with x; counts how many it does at once."""

    def __init__(self) -> None:
        self.in_progress = self.most = 0

    async def answer(self, request: AnyRequest) -> AnyAnswer:
        self.in_progress += 1
        self.most = max(self.most, self.in_progress)
        await asyncio.sleep(0)
        self.in_progress -= 1
        if request.device.startswith("x"):
            raise TimeoutError("JetStream does not answer")
        return DeviceGone(connection_id=request.connection_id)


def leave(device: str, connection_id: int = 1) -> LeavePool:
    return LeavePool(app="demo", device=device, edge="e", connection_id=connection_id)


async def test_a_batch_has_one_answer_in_the_order_of_its_requests_without_those_that_failed() -> None:
    bus, engine = PlayedBus(), Engine()
    requests = Requests(bus, engine.answer)  # type: ignore[arg-type]  # it behaves like a bus
    batch = RequestBatch(requests=[leave("a", 1), leave("x", 2), leave("c", 3)])
    requests.on_request(BATCH, "reply", encode(batch), None)
    await bus.rest()
    ((subject, payload),) = bus.published
    assert subject == "reply"
    assert decode_answers(payload).answers == [
        DeviceGone(connection_id=1),
        None,
        DeviceGone(connection_id=3),
    ]


async def test_who_asks_for_another_edge_is_not_answered_and_changes_nothing() -> None:
    bus, engine = PlayedBus(), Engine()
    requests = Requests(bus, engine.answer)  # type: ignore[arg-type]  # it behaves like a bus
    before = dropped.labels("false_claim")._value.get()
    batch = RequestBatch(requests=[leave("a")])
    requests.on_request(BATCH.replace(".e.", ".liar."), "reply", encode(batch), None)
    await bus.rest()
    assert (bus.published, engine.most) == ([], 0)
    assert dropped.labels("false_claim")._value.get() == before + 1


async def test_a_request_to_whose_answer_nobody_listens_is_dropped() -> None:
    bus, engine = PlayedBus(), Engine()
    requests = Requests(bus, engine.answer)  # type: ignore[arg-type]  # it behaves like a bus
    requests.on_request(BATCH, "", encode(RequestBatch(requests=[leave("a")])), None)
    await bus.rest()
    assert (bus.published, engine.most) == ([], 0)


async def test_a_crowd_is_answered_a_few_at_a_time_and_what_fails_is_logged_as_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus, engine = PlayedBus(), Engine()
    requests = Requests(bus, engine.answer)  # type: ignore[arg-type]  # it behaves like a bus
    before = dropped.labels("unreadable")._value.get()
    with caplog.at_level(logging.WARNING):
        for number in range(1000):
            name = "ax"[number % 2]
            subject = subjects.match("demo", "", f"{name}{number}")
            requests.on_request(subject, f"r{number}", encode(leave(f"{name}{number}")), None)
            requests.on_request(subject, "", b"no request", None)
        await requests.drain(5)
        await bus.rest()
    assert [subject for subject, _ in bus.published] == [f"r{number}" for number in range(0, 1000, 2)]
    assert all(decode_answer(payload) == DeviceGone(connection_id=1) for _, payload in bus.published)
    assert engine.most == DEPARTURES[1]
    assert dropped.labels("unreadable")._value.get() == before + 1000
    assert len([record for record in caplog.records if record.name == "requests"]) == 1
