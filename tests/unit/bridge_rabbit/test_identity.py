"""What names a fact in RabbitMQ."""

from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bridge_rabbit.core.identity import MAX_IDENTITY, identity
from cloudmatch_bus.contract.deliveries import span
from cloudmatch_bus.contract.messages import AmountReported, DeliveriesCounted, MatchEnded
from harness.ids import ids


def counted(source: str, incarnation: int, number: int) -> DeliveriesCounted:
    spans = [span("a", "b", 7, 0, [4])]
    return DeliveriesCounted(
        app="x", at=1, source=source, incarnation=incarnation, number=number, spans=spans
    )


@given(ids, st.integers(0, 2**63), st.integers(1, 2**63))
def test_a_fact_is_named_by_its_source_and_number_wherever_it_is_in_the_stream(
    source: str, incarnation: int, number: int
) -> None:
    fact = counted(source, incarnation, number)
    name = identity(1, fact)
    assert name == identity(2, fact)
    assert len(name.encode()) <= MAX_IDENTITY
    others = counted(source, incarnation, number + 1), counted(source, incarnation + 1, number)
    assert name not in [identity(1, each) for each in others]


def test_a_report_is_named_by_its_number_if_it_has_one_other_facts_by_their_position() -> None:
    numbered = AmountReported(
        app="x", at=1, device="a", event_type="bytesSent", amount=1, source="j", incarnation=5, number=2
    )
    former = AmountReported(app="x", at=1, device="a", event_type="bytesSent", amount=1)
    other = MatchEnded(app="x", at=1, match=1, device="a", peer="b", reason="left")
    assert [identity(9, each) for each in (numbered, former, other)] == ["j.5.2", "9", "9"]
