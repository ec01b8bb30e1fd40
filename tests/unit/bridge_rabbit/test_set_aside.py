"""The message that keeps a fact which could not be published, and what is published of it later."""

import pytest
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from cloudmatch_bridge_rabbit.core import batches
from cloudmatch_bridge_rabbit.core.frames import blocks
from cloudmatch_bridge_rabbit.core.set_aside import MAX_REASON, encoded, replayed
from cloudmatch_bridge_rabbit.core.singles import Singles
from cloudmatch_bus.contract import streams
from cloudmatch_bus.contract.deliveries import span
from cloudmatch_bus.contract.messages import DeliveriesCounted, MatchEnded, encode

FACT = DeliveriesCounted(
    app="demo", at=1500, source="edge-0", incarnation=1, number=1, spans=[span("a", "c", 7, 0, [4, 5])]
)


def test_a_fact_is_kept_as_it_was_with_the_reason() -> None:
    publish = commands.Basic.Publish(exchange="", routing_key="cloudmatch.facts.dead", mandatory=True)
    headers = {"position": 42, "reason": "x" * MAX_REASON}
    properties = commands.Basic.Properties(delivery_mode=2, headers=headers)
    parts = (publish, ContentHeader(body_size=7, properties=properties), ContentBody(b"no fact"))
    expected = b"".join(frame.marshal(each, 3) for each in parts)
    assert encoded(b"no fact", {"position": 42}, "x" * 600, 3, 100) == expected


def test_a_fact_is_published_in_the_end_as_its_consumer_does() -> None:
    payload = encode(FACT)
    batch = batches.batch(42, FACT, payload)
    assert batch is not None
    assert list(replayed("bridge-rabbit", 42, payload, 3, 100)) == list(batches.blocks([batch], 3, 100))
    singles = list(blocks(Singles(3).messages([(42, FACT)])))
    assert list(replayed(streams.SINGLES, 42, payload, 3, 100)) == singles


def test_a_fact_that_counts_nothing_becomes_nothing() -> None:
    fact = MatchEnded(app="x", at=1, match=1, device="a", peer="b", reason="left")
    assert list(replayed("bridge-rabbit", 42, encode(fact), 3, 100)) == []


def test_what_is_no_fact_cannot_be_published() -> None:
    with pytest.raises(ValueError, match="JSON"):
        list(replayed("bridge-rabbit", 42, b"no fact", 3, 100))
