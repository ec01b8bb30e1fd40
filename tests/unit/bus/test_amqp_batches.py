"""A batch of sizes is read from the fact's own bytes; whatever is not one is refused with a reason."""

from typing import Any

import pytest

from cloudmatch_bus.contract import amqp_batches
from cloudmatch_bus.contract.amqp import UnreadableError
from cloudmatch_bus.contract.deliveries import span
from cloudmatch_bus.contract.messages import DeliveriesCounted, encode
from unit.bus.recorder import Recorder

FACT = DeliveriesCounted(
    app="demo", at=5, source="edge-0", incarnation=1, number=1, spans=[span("a", "c", 7, 3, [4, 5])]
)


def test_the_totals_of_a_fact_are_read() -> None:
    batch = amqp_batches.decode(encode(FACT))
    (totals,) = batch.spans
    assert (batch.app, batch.at) == ("demo", 5)
    assert (totals.sender, totals.receiver, totals.payloads, totals.bytes) == ("a", "c", 2, 9)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"4",
        b"\xff",
        b'{"app":' + b"[" * 100_000,
        b'{"app":"demo","at":5}',
        b'{"app":"demo","at":5,"spans":[]}',
        b'{"app":"demo","at":-1,"spans":[["a","c",7,0,1,4,"4"]]}',
        b'{"app":"demo","at":5,"spans":[["a","c",7,0,0,0,""]]}',
        b'{"app":"demo","at":5,"spans":[["a","c",7,0,1,-4,"-4"]]}',
        b'{"app":"demo","at":5,"spans":[["a","c",7,0,1,4.5,"4.5"]]}',
        b'{"app":"demo","at":5,"spans":[["a","c",7,0,1,1000000000000000,"1000000000000000"]]}',
        b'{"app":"demo","at":253402300800000,"spans":[["a","c",7,0,1,4,"4"]]}',
        b'{"app":"demo","at":1' + b"0" * 400 + b',"spans":[["a","c",7,0,1,4,"4"]]}',
        b'{"app":"demo","at":NaN,"spans":[["a","c",7,0,1,4,"4"]]}',
        b'{"app":"demo","at":5,"spans":[["a","c",7,0,1,1' + b"0" * 400 + b',"4"]]}',
    ],
)
def test_what_is_no_batch_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        amqp_batches.decode(body)


def test_the_largest_time_is_read() -> None:
    body = b'{"app":"demo","at":253402300799999,"spans":[["a","c",7,0,1,999999999999999,"4"]]}'
    assert amqp_batches.decode(body).at == 253402300799999


def test_fields_of_the_future_are_ignored() -> None:
    body = b'{"app":"demo","at":5,"future":1,"spans":[["a","c",7,0,1,4,"4","future"]]}'
    assert amqp_batches.decode(body).spans[0].bytes == 4


async def test_exchanges_and_queues_are_durable_and_rejected_messages_become_dead_letters() -> None:
    calls: list[tuple[Any, ...]] = []
    queue = await amqp_batches.declare(Recorder(calls), "quorum")
    assert queue.name == "cloudmatch.sizes.analytics"
    dead = {"x-queue-type": "quorum"}
    assert calls == [
        ("exchange", "cloudmatch.sizes", "topic", True),
        ("exchange", "cloudmatch.sizes.dead", "fanout", True),
        ("queue", "cloudmatch.sizes.dead", True, dead),
        ("bind", "cloudmatch.sizes.dead", "cloudmatch.sizes.dead", "cloudmatch.sizes.dead"),
        ("queue", queue.name, True, dead | {"x-dead-letter-exchange": "cloudmatch.sizes.dead"}),
        ("bind", queue.name, "cloudmatch.sizes", "#"),
    ]
