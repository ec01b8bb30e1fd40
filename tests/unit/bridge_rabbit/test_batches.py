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
    DeviceForgotten,
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
    assert batch(42, decode_fact(payload), payload) == Batch("edge-0.1.1", "demo", payload)


def test_a_fact_of_former_edges_becomes_a_batch_of_one_span() -> None:
    fact = PayloadsDelivered(app="demo", at=1500, match=7, sender="a", receiver="c", sizes=[4, 5])
    message = batch(42, fact, encode(fact))
    assert message is not None
    read = amqp_batches.decode(message.body)
    assert (message.id, message.app, read.app, read.at) == ("42", "demo", "demo", 1500)
    assert decode_fact(message.body) == msgspec.structs.replace(
        COUNTED, source="bridge-rabbit", incarnation=0, number=42
    )


def test_reported_bytes_become_a_batch_of_one_payload() -> None:
    fact = AmountReported(app="demo", at=3, device="a", event_type="bytesSent", amount=12)
    message = batch(1, fact, encode(fact))
    assert message is not None
    (counted,) = amqp_batches.decode(message.body).spans
    assert (counted.sender, counted.receiver, counted.payloads, counted.bytes) == ("a", "", 1, 12)
    assert message.id == "1"


def test_reported_bytes_that_are_in_the_stream_twice_become_the_same_batch() -> None:
    fact = AmountReported(
        app="x", at=3, device="a", event_type="bytesSent", amount=12, source="j", incarnation=5, number=9
    )
    first, second = (batch(position, fact, encode(fact)) for position in (1, 2))
    assert first == second
    assert first is not None
    read = decode_fact(first.body)
    assert isinstance(read, DeliveriesCounted)
    assert (first.id, read.source, read.incarnation, read.number) == ("j.5.9", "j", 5, 9)


def test_a_fact_that_counts_nothing_becomes_no_message() -> None:
    assert batch(1, MatchEnded(app="x", at=1, match=1, device="a", peer="b", reason="left"), b"{}") is None


@given(
    st.text("0123456789.abc", min_size=1, max_size=255),
    ids,
    st.binary(max_size=90),
    st.integers(1, 9),
    st.integers(1, 99),
)
def test_the_frames_are_those_of_pamqp(of_fact: str, app: str, body: bytes, channel: int, most: int) -> None:
    properties = commands.Basic.Properties(
        content_type="application/json", delivery_mode=2, message_id=of_fact
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
    assert encoded(Batch(of_fact, app, body), channel, most) == b"".join(expected)


def test_messages_are_joined_in_blocks() -> None:
    messages = [Batch("1", "a", b"{}"), Batch("2", "b", b"{}")]
    (block,) = blocks(messages, 1, 100)
    assert block == (encoded(messages[0], 1, 100) + encoded(messages[1], 1, 100), 2)


def test_a_device_to_forget_is_passed_on_as_it_was_published_on_an_exchange_of_its_own() -> None:
    payload = encode(DeviceForgotten(app="demo", at=5, device="a")).replace(b"{", b'{"future":1,', 1)
    message = batch(42, decode_fact(payload), payload)
    assert message == Batch("42", "demo", payload, "cloudmatch.forgotten")
    _, _, publish = frame.unmarshal(encoded(message, 1, 1000))
    assert (publish.exchange, publish.routing_key, publish.mandatory) == (
        "cloudmatch.forgotten",
        "demo",
        True,
    )
