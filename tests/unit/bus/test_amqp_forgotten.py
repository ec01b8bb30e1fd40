"""A device to forget is read from the fact's own bytes; whatever names none is refused with a reason."""

from typing import Any

import pytest

from cloudmatch_bus.contract import amqp_forgotten
from cloudmatch_bus.contract.amqp import UnreadableError
from cloudmatch_bus.contract.messages import DeviceForgotten, encode
from unit.bus.recorder import Recorder


def test_the_device_and_the_time_of_a_fact_are_read() -> None:
    fact = DeviceForgotten(app="demo", at=5, device="é.")
    found = amqp_forgotten.decode(encode(fact).replace(b"{", b'{"future":1,', 1))
    assert (found.app, found.at, found.device) == ("demo", 5, "é.")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b'{"app":"demo","at":5}',
        b'{"app":"demo","at":5,"device":""}',
        b'{"app":"demo","at":-1,"device":"a"}',
        b'{"app":"demo","at":1' + b"0" * 400 + b',"device":"a"}',
    ],
)
def test_what_names_no_device_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        amqp_forgotten.decode(body)


async def test_it_has_an_exchange_and_queues_of_its_own() -> None:
    calls: list[tuple[Any, ...]] = []
    queue = await amqp_forgotten.declare(Recorder(calls), "quorum")
    assert queue.name == "cloudmatch.forgotten.analytics"
    assert calls[0] == ("exchange", "cloudmatch.forgotten", "topic", True)
    assert calls[-1] == ("bind", queue.name, "cloudmatch.forgotten", "#")
    assert {call[1] for call in calls if call[0] == "queue"} == {queue.name, "cloudmatch.forgotten.dead"}
