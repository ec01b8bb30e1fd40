"""One message per payload, byte for byte as the drivers encode a `SizeMessage`."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from cloudmatch_bridge_rabbit.core.singles import KNOWN, MOST, Singles
from cloudmatch_bus.contract import amqp
from cloudmatch_bus.contract.amqp import SizeMessage
from cloudmatch_bus.contract.deliveries import Span, span
from cloudmatch_bus.contract.messages import AnyFact, DeliveriesCounted, MatchEnded, PayloadsDelivered
from harness.ids import ids

GOLDEN: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "contract/size_messages.json").read_text(encoding="utf-8")
)


def of_pamqp(message: SizeMessage, channel: int) -> bytes:
    body, key, message_id, correlation_id, timestamp, headers = message.encode()
    properties = commands.Basic.Properties(
        content_type="text/plain",
        delivery_mode=2,
        message_id=message_id,
        correlation_id=correlation_id,
        timestamp=timestamp,
        headers=headers | {amqp.BATCHED: True},
    )
    publish = commands.Basic.Publish(exchange=amqp.EXCHANGE, routing_key=key, mandatory=False)
    header = ContentHeader(body_size=len(body), properties=properties)
    return b"".join(frame.marshal(each, channel) for each in (publish, header, ContentBody(body)))


def counted(*spans: Span, at: int = 1500, app: str = "demo") -> DeliveriesCounted:
    return DeliveriesCounted(app=app, at=at, source="e", incarnation=1, number=42, spans=list(spans))


sizes = st.lists(st.sampled_from([0, 9, 64]) | st.integers(0, 10**14 - 1), min_size=1, max_size=9)
directions = st.builds(span, ids, ids, st.integers(0, 2**63 - 1), st.just(0), sizes)


@given(
    ids,
    st.integers(0, 10**14),
    st.lists(directions, min_size=1, max_size=4),
    st.integers(1, 65_535),
)
def test_every_payload_of_a_batch_becomes_a_message_numbered_through_all_spans(
    app: str, at: int, spans: list[Span], channel: int
) -> None:
    payloads = [(each, size) for each in spans for size in each.each_size()]
    expected = [
        SizeMessage(size, app, each.sender, each.receiver, each.match, at, f"e.1.42.{index}")
        for index, (each, size) in enumerate(payloads)
    ]
    encoder = Singles(channel)
    messages = list(encoder.messages([(7, counted(*spans, at=at, app=app))]))
    assert messages == [of_pamqp(each, channel) for each in expected]
    assert (encoder.evened, encoder.dropped) == (0, 0)


@pytest.mark.parametrize("sample", GOLDEN, ids=lambda sample: sample["of"])
def test_a_golden_sample_is_published_as_it_is(sample: dict[str, Any]) -> None:
    message = SizeMessage(**sample["message"])
    position, _, index = str(message.message_id).partition(".")
    before = [0] * int(index)
    one = span(message.sender, message.receiver, message.match, 0, [*before, message.size])
    fact = msgspec.structs.replace(counted(one, at=message.at or 0, app=message.app), number=0)
    assert list(Singles(1).messages([(int(position), fact)]))[-1] == of_pamqp(message, 1)


def test_many_different_sizes_and_numbers_of_different_length_are_kept_apart() -> None:
    sizes = [*range(KNOWN + 5), 5, 10**6]
    expected = [SizeMessage(s, "demo", "a", "b", 7, 1500, f"e.1.42.{i}") for i, s in enumerate(sizes)]
    messages = list(Singles(1).messages([(42, counted(span("a", "b", 7, 0, sizes)))]))
    assert messages == [of_pamqp(each, 1) for each in expected]


def test_facts_come_in_order_and_those_that_count_nothing_become_no_message() -> None:
    facts: list[tuple[int, AnyFact]] = [
        (1, PayloadsDelivered(app="demo", at=1500, match=7, sender="a", receiver="c", sizes=[4])),
        (2, MatchEnded(app="x", at=1, match=1, device="a", peer="b", reason="left")),
        (3, counted(span("a", "c", 7, 1, [5]))),
    ]
    expected = [SizeMessage(s, "demo", "a", "c", 7, 1500, i) for i, s in (("1.0", 4), ("e.1.42.0", 5))]
    assert list(Singles(1).messages(facts)) == [of_pamqp(each, 1) for each in expected]


def test_sizes_that_do_not_fit_their_totals_are_published_as_equal_ones_and_counted() -> None:
    fact = counted(Span("a", "b", 7, 0, 3, 200, "nonsense"), span("a", "c", 7, 0, [4]))
    encoder = Singles(1)
    payloads = [("b", 66), ("b", 67), ("b", 67), ("c", 4)]
    expected = [SizeMessage(s, "demo", "a", to, 7, 1500, f"e.1.42.{i}") for i, (to, s) in enumerate(payloads)]
    assert list(encoder.messages([(42, fact)])) == [of_pamqp(each, 1) for each in expected]
    assert (encoder.evened, encoder.dropped) == (1, 0)


def test_a_span_that_amqp_cannot_express_is_dropped_and_counted_and_keeps_its_numbers() -> None:
    fact = counted(span("a", "b", 2**63, 0, [1, 2]), span("a", "c", 7, 0, [4]))
    encoder = Singles(1)
    assert list(encoder.messages([(42, fact), (43, counted(span("a", "c", 7, 0, [4]), at=-1))])) == [
        of_pamqp(SizeMessage(4, "demo", "a", "c", 7, 1500, "e.1.42.2"), 1)
    ]
    assert (encoder.evened, encoder.dropped) == (0, 2)


def test_times_that_drivers_cannot_decode_are_dropped_and_the_last_that_they_can_is_not() -> None:
    encoder = Singles(1)
    facts = [counted(span("a", "c", 7, 0, [4]), at=at) for at in (amqp.MAX_TIME - 1, amqp.MAX_TIME, 10**400)]
    assert len(list(encoder.messages([(42, each) for each in facts]))) == 1
    assert encoder.dropped == 2


def test_one_fact_becomes_a_million_messages_at_most() -> None:
    encoder = Singles(1)
    spans = [Span("a", "b", 7, 0, count, 0, f"0*{count}") for count in (2, MOST - 2, 1)]
    published = encoder.messages([(42, counted(*spans[:1], *spans[2:])), (43, counted(*spans))])
    assert sum(1 for _ in published) == 3 + MOST
    assert encoder.dropped == 1
    assert list(encoder.messages([(42, counted(Span("a", "b", 7, 0, 10**9, 0, "0*1000000000")))])) == []
    assert encoder.dropped == 2
