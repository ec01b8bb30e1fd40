"""The batch that a fact becomes, and its frames."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from cloudmatch_bridge_rabbit.core.batches import Batch, batch, blocks, encoded
from cloudmatch_bus.contract import amqp_batches, amqp_names
from cloudmatch_bus.contract.deliveries import span
from cloudmatch_bus.contract.messages import (
    AmountReported,
    DeliveriesCounted,
    MatchEnded,
    PayloadsDelivered,
    decode_fact,
    encode,
)
from harness.ids import ids

COUNTED = DeliveriesCounted(
    app="demo", at=1500, source="edge-0", incarnation=1, number=1, spans=[span("a", "c", 7, 0, [4, 5])]
)


def test_a_batch_is_passed_on_as_it_was_published() -> None:
    payload = msgspec.json.format(encode(COUNTED))  # whatever its spaces, and fields of the future
    assert batch(42, decode_fact(payload), payload) == Batch(42, "demo", payload)


def test_a_fact_of_former_edges_becomes_a_batch_of_one_span() -> None:
    fact = PayloadsDelivered(app="demo", at=1500, match=7, sender="a", receiver="c", sizes=[4, 5])
    message = batch(42, fact, encode(fact))
    assert message is not None
    read = amqp_batches.decode(message.body)
    assert (message.position, message.app, read.app, read.at) == (42, "demo", "demo", 1500)
    assert decode_fact(message.body) == msgspec.structs.replace(
        COUNTED, source="bridge-rabbit", incarnation=0, number=42
    )


def test_reported_bytes_become_a_batch_of_one_payload() -> None:
    fact = AmountReported(app="demo", at=3, device="a", event_type="bytesSent", amount=12)
    message = batch(1, fact, encode(fact))
    assert message is not None
    (counted,) = amqp_batches.decode(message.body).spans
    assert (counted.sender, counted.receiver, counted.payloads, counted.bytes) == ("a", "", 1, 12)


def test_a_fact_that_counts_nothing_becomes_no_message() -> None:
    assert batch(1, MatchEnded(app="x", at=1, match=1, device="a", peer="b", reason="left"), b"{}") is None


@given(
    st.integers(1, 2**63),
    ids,
    st.binary(max_size=90),
    st.integers(1, 9),
    st.integers(1, 99),
)
def test_the_frames_are_those_of_pamqp(position: int, app: str, body: bytes, channel: int, most: int) -> None:
    properties = commands.Basic.Properties(
        content_type="application/json", delivery_mode=2, message_id=f"{position}"
    )
    publish = commands.Basic.Publish(
        exchange="cloudmatch.sizes", routing_key=amqp_names.app_key(app), mandatory=True
    )
    parts = [body[start : start + most] for start in range(0, len(body), most)]
    expected = [
        frame.marshal(each, channel)
        for each in (
            publish,
            ContentHeader(body_size=len(body), properties=properties),
            *map(ContentBody, parts),
        )
    ]
    assert encoded(Batch(position, app, body), channel, most) == b"".join(expected)


def test_messages_are_joined_in_blocks() -> None:
    messages = [Batch(1, "a", b"{}"), Batch(2, "b", b"{}")]
    (block,) = blocks(messages, 1, 100)
    assert block == (encoded(messages[0], 1, 100) + encoded(messages[1], 1, 100), 2)
