"""A batch of sizes is read from the fact's own bytes; whatever is not one is refused with a reason."""

import pytest

from cloudmatch_bus.contract import amqp_batches
from cloudmatch_bus.contract.amqp import UnreadableError
from cloudmatch_bus.contract.deliveries import span
from cloudmatch_bus.contract.messages import DeliveriesCounted, encode

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
        b'{"app":"demo","at":5}',
        b'{"app":"demo","at":5,"spans":[]}',
        b'{"app":"demo","at":-1,"spans":[["a","c",7,0,1,4,"4"]]}',
        b'{"app":"demo","at":5,"spans":[["a","c",7,0,0,0,""]]}',
        b'{"app":"demo","at":5,"spans":[["a","c",7,0,1,-4,"-4"]]}',
        b'{"app":"demo","at":5,"spans":[["a","c",7,0,1,4.5,"4.5"]]}',
        b'{"app":"demo","at":5,"spans":[["a","c",7,0,1,1000000000000000,"1000000000000000"]]}',
    ],
)
def test_what_is_no_batch_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        amqp_batches.decode(body)


def test_fields_of_the_future_are_ignored() -> None:
    body = b'{"app":"demo","at":5,"future":1,"spans":[["a","c",7,0,1,4,"4","future"]]}'
    assert amqp_batches.decode(body).spans[0].bytes == 4
