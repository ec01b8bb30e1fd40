"""The journal compared with itself and with the stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract.deliveries import span
from cloudmatch_bus.contract.messages import AnyFact, PayloadsDelivered
from cloudmatch_journal.core import segments
from cloudmatch_journal.core.audit import Fault, Finding, Order, Positions, compare
from cloudmatch_journal.core.segments import Document
from unit.journal.samples import counted


def fact(position: int, size: int = 1) -> AnyFact:
    return PayloadsDelivered(app="x", at=position, match=1, sender="a", receiver="b", sizes=[size])


def documents(*positions: int) -> list[Document]:
    return [segments.to_document(position, fact(position)) for position in positions]


def messages(*positions: int) -> list[tuple[int, AnyFact | None]]:
    return [(position, fact(position)) for position in positions]


def ordered(*positions: int) -> tuple[Order, list[tuple[Fault, int]]]:
    order = Order()
    return order, [(each.fault, each.position) for each in order.check("s", positions)]


@pytest.mark.parametrize(
    ("positions", "wrong"),
    [
        ((1, 2, 3, 7), []),
        ((1, 2, 2, 3), [(Fault.DUPLICATE, 2)]),
        ((1, 3, 2, 4), [(Fault.DISORDER, 2)]),
        ((1, 3, 2, 2, 3, 4), [(Fault.DISORDER, 2), (Fault.DUPLICATE, 2), (Fault.DUPLICATE, 3)]),
        ((5, 6, 1, 7), [(Fault.DISORDER, 1)]),
    ],
)
def test_positions_must_ascend(positions: tuple[int, ...], wrong: list[tuple[Fault, int]]) -> None:
    order, found = ordered(*positions)
    assert found == wrong
    assert (order.count, order.last) == (len(positions), max(positions))


def test_order_is_checked_across_segments() -> None:
    order = Order()
    assert order.check("first", [1, 2, 3]) == []
    assert order.check("second", [3, 4]) == [Finding(Fault.DUPLICATE, 3, "second")]


@given(st.sets(st.integers(1, 60)))
def test_a_set_of_positions_contains_what_was_added_and_nothing_else(some: set[int]) -> None:
    positions = Positions()
    for position in sorted(some):
        positions.add(position)
    assert {position for position in range(62) if position in positions} == some
    assert positions.last == max(some, default=0)
    assert "1" not in positions


def test_a_segment_equal_to_the_stream_has_no_faults() -> None:
    order, _ = ordered(1, 2, 4)
    stream = [*messages(1, 2), (3, None), *messages(4)]  # 3 is not a fact, and is not stored
    assert compare("s", documents(1, 2, 4), stream, order) == []


@pytest.mark.parametrize(
    ("stored", "stream", "fault"),
    [
        (documents(1, 3), messages(1, 2, 3), Fault.MISSING),
        (documents(1, 2, 3), messages(1, 3), Fault.UNKNOWN),
        (documents(1, 2), [*messages(1), (2, None)], Fault.UNKNOWN),
        (documents(1, 2), [*messages(1), (2, fact(2, size=5))], Fault.DIFFERENT),
    ],
)
def test_each_difference_is_named(
    stored: list[Document], stream: list[tuple[int, AnyFact | None]], fault: Fault
) -> None:
    order, _ = ordered(*(d["position"] for d in stored))
    assert compare("s", stored, stream, order) == [Finding(fault, 2, "s")]


def test_a_batch_with_one_span_changed_is_different() -> None:
    good, changed = (counted(2, span("a", "b", 1, 0, [4]), span("b", "a", 1, 0, [n])) for n in (1, 2))
    order, _ = ordered(2)
    assert compare("s", [segments.to_document(*good)], [good], order) == []
    assert compare("s", [segments.to_document(*changed)], [good], order) == [Finding(Fault.DIFFERENT, 2, "s")]


def test_a_position_out_of_order_is_not_missing_as_well() -> None:
    order, found = ordered(1, 3, 4, 2)
    assert found == [(Fault.DISORDER, 2)]
    assert compare("s", documents(1, 3), messages(1, 2, 3), order) == []  # 2 is in another segment


def test_a_finding_is_one_line_with_position_and_segment() -> None:
    line = str(Finding(Fault.MISSING, 17, segments.segment_name(5)))
    assert line.split() == ["missing", "position", "17", "events-00000000000000000005.jsonl"]
