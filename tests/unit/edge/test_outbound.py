"""From a device to its peer: subjects, retransmission, receipts and sizes."""

from typing import Any

import pytest

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.liveness import EDGE_ISOLATED_AFTER
from cloudmatch_edge.dialects.base import Send
from cloudmatch_edge.relay.book import Direction
from cloudmatch_edge.relay.outbound import (
    Outbound,
    batches_retransmitted,
    bytes_delivered,
    payloads_delivered,
    payloads_sent,
    payloads_undelivered,
)
from cloudmatch_edge.relay.sender import PROBE_TIMEOUT, WINDOW_PAYLOADS
from unit.edge.fakes import APP, DEVICE, EDGE, PEER, FakeBus, texts

PREFIX = subjects.ack_prefix(APP, EDGE, DEVICE, 5)
MAIN = subjects.up(APP, EDGE, DEVICE)
FALLBACK = subjects.up_fallback(APP, EDGE, DEVICE)


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


def outbound(bus: FakeBus, *, started: bool = True, earlier: Outbound | None = None) -> Outbound:
    return Outbound(bus, APP, DEVICE, PEER, 5, PREFIX, started=started, earlier=earlier)


def value(counter: Any) -> float:
    return float(counter.value if hasattr(counter, "value") else counter._value.get())


def test_payloads_go_to_the_devices_own_partition_with_numbers_and_shapes_as_reply_address(
    bus: FakeBus,
) -> None:
    before = value(payloads_sent)
    out = outbound(bus)
    out.push(Send(texts("one", "three")))
    out.push(Send([(False, b"x")]))
    assert bus.pop_published() == [
        (MAIN, b"onethree", f"{PREFIX}0.t3-t5"),
        (MAIN, b"x", f"{PREFIX}2.b1"),
    ]
    assert value(payloads_sent) == before + 3


def test_how_much_was_sent_is_known_here_and_from_an_earlier_connection_here(bus: FakeBus) -> None:
    first = outbound(bus)
    first.push(Send(texts("one", "two", "three")))
    first.on_ack(2, 2)
    second = outbound(bus, started=False, earlier=first)
    assert (first.sent, second.sent, second.delivered_before) == (3, 3, 2)
    second.start(2)
    second.push(Send(texts("three", "four")))
    assert second.sent == 4
    assert (second.may_have_sent(4), second.may_have_sent(5)) == (True, False)


def test_how_much_was_sent_elsewhere_is_limited_by_what_may_be_undelivered(bus: FakeBus) -> None:
    out = outbound(bus, started=False)
    assert (out.sent, out.may_have_sent(10**9)) == (None, True)
    out.start(7)
    assert out.sent == 7 + WINDOW_PAYLOADS


def test_a_batch_without_responders_goes_by_the_fallback(bus: FakeBus) -> None:
    out = outbound(bus)
    out.push(Send(texts("one")))
    bus.pop_published()
    out.no_responders(0)
    out.no_responders(0)
    assert bus.pop_published() == [(FALLBACK, b"one", f"{PREFIX}0.t3")]


def test_an_overdue_batch_is_retransmitted_and_counted(bus: FakeBus) -> None:
    before = value(batches_retransmitted)
    out = outbound(bus)
    out.push(Send(texts("one")))
    bus.pop_published()
    out.tick(PROBE_TIMEOUT / 2)
    assert bus.pop_published() == []
    out.tick(PROBE_TIMEOUT)
    assert bus.pop_published() == [(FALLBACK, b"one", f"{PREFIX}0.t3")]
    assert value(batches_retransmitted) == before + 1


def test_an_acked_probe_releases_all_overdue_batches(bus: FakeBus) -> None:
    out = outbound(bus)
    out.push(Send(texts("one")))
    out.push(Send(texts("two")))
    out.tick(PROBE_TIMEOUT)
    bus.pop_published()
    bus.seconds = PROBE_TIMEOUT
    assert not out.on_ack(1, 0)
    assert [payload for _, payload, _ in bus.pop_published()] == [b"two"]


def test_receipts_are_due_when_their_payload_was_delivered(bus: FakeBus) -> None:
    out = outbound(bus)
    out.push(Send(texts("one", "two"), [(1, "second")]))
    out.push(Send(texts("three"), [(0, "third")]))
    assert not out.on_ack(3, 0)
    assert out.pop_delivered_refs() == []
    assert out.on_ack(3, 2)
    assert out.pop_delivered_refs() == ["second"]
    assert not out.on_ack(3, 2)
    assert out.on_ack(3, 3)
    assert out.pop_delivered_refs() == ["third"]


def test_sizes_are_reported_once_with_the_number_of_the_first(bus: FakeBus) -> None:
    payloads, size = value(payloads_delivered), value(bytes_delivered)
    out = outbound(bus)
    out.push(Send(texts("one", "three", "x")))
    out.on_ack(2, 2)
    out.report_sizes()
    out.report_sizes()
    out.on_ack(3, 3)
    out.report_sizes()
    direction = Direction(APP, 5, DEVICE, PEER)
    assert bus.counted == [(direction, 0, [3, 5], False), (direction, 2, [1], False)]
    assert (value(payloads_delivered), value(bytes_delivered)) == (payloads + 3, size + 9)


def test_it_starts_where_the_connection_before_stopped(bus: FakeBus) -> None:
    out = outbound(bus, started=False)
    assert not out.started
    out.start(7)
    out.push(Send(texts("one")))
    assert out.started
    assert bus.pop_published() == [(MAIN, b"one", f"{PREFIX}7.t3")]


def test_after_a_move_of_the_peer_what_its_new_edge_lacks_is_retransmitted(bus: FakeBus) -> None:
    out = outbound(bus)
    for word in ("one", "two", "three"):
        out.push(Send(texts(word)))
    out.on_ack(3, 0)
    bus.pop_published()
    assert out.resync(1, 1)
    assert [payload for _, payload, _ in bus.pop_published()] == [b"two", b"three"]
    assert not out.resync(3, 1)


def test_a_connection_that_is_cut_off_reports_only_sizes_that_no_other_reports(bus: FakeBus) -> None:
    payloads = value(payloads_delivered)
    out = outbound(bus)
    out.push(Send(texts("x", "xx", "xxx", "xxxx", "xxxxx")))
    out.on_ack(1, 1)
    assert out.cut_off(base=4, since=2)
    out.report_sizes()
    assert [(first, sizes) for _, first, sizes, _ in bus.counted] == [(0, [1]), (2, [3, 4])]
    assert value(payloads_delivered) == payloads + 3, "another connection counts the other"
    assert not out.cut_off(base=4, since=2)
    assert out.cut_off(base=5, since=5), "its receipt is due, but another connection counts it"
    out.report_sizes()
    assert len(bus.counted) == 2


def test_what_was_on_its_way_during_a_silence_is_late_when_it_turns_out_to_be_delivered(bus: FakeBus) -> None:
    out = outbound(bus)
    out.push(Send(texts("x", "xx", "xxx")))
    bus.seconds = EDGE_ISOLATED_AFTER
    out.on_ack(1, 1)
    out.report_sizes()
    bus.seconds = 2 * EDGE_ISOLATED_AFTER + 0.1
    out.push(Send(texts("xxxx")))
    out.on_ack(2, 2)
    out.push(Send(texts("xxxxx")))
    out.report_sizes()
    out.on_ack(5, 5)
    out.report_sizes()
    assert [each[1:] for each in bus.counted] == [
        (0, [1], False),
        (1, [2], True),
        (2, [3, 4], True),
        (4, [5], False),
    ]


@pytest.mark.parametrize("how", ["resync", "cut off"])
def test_what_another_edge_tells_after_a_silence_is_late(bus: FakeBus, how: str) -> None:
    out = outbound(bus)
    out.push(Send(texts("x", "xx")))
    bus.seconds = EDGE_ISOLATED_AFTER + 0.1
    assert out.resync(2, 2) if how == "resync" else out.cut_off(base=2, since=0)
    out.report_sizes()
    assert [each[1:] for each in bus.counted] == [(0, [1, 2], True)]


def test_what_was_not_reported_at_once_is_late(bus: FakeBus) -> None:
    out = outbound(bus)
    out.push(Send(texts("x")))
    out.on_ack(1, 1)
    bus.seconds = EDGE_ISOLATED_AFTER + 0.1
    out.report_sizes()
    assert [each[1:] for each in bus.counted] == [(0, [1], True)]


def test_while_nothing_is_on_its_way_silence_means_nothing(bus: FakeBus) -> None:
    out = outbound(bus)
    bus.seconds = 2 * EDGE_ISOLATED_AFTER
    out.push(Send(texts("x")))
    out.on_ack(1, 1)
    out.report_sizes()
    assert [each[1:] for each in bus.counted] == [(0, [1], False)]


def test_it_stalls_without_progress_unless_the_peer_is_excused(bus: FakeBus) -> None:
    out = outbound(bus)
    assert not out.stalled(100, patience=1)
    out.push(Send(texts("one")))
    assert not out.stalled(1, patience=1)
    assert out.stalled(1.1, patience=1)
    out.excuse(1.1)
    assert not out.stalled(2, patience=1)


def test_what_is_left_when_the_match_is_over_counts_as_undelivered(bus: FakeBus) -> None:
    before = value(payloads_undelivered.labels("match_over"))
    out = outbound(bus)
    out.push(Send(texts("one", "two")))
    out.on_ack(2, 1)
    out.count_undelivered()
    assert value(payloads_undelivered.labels("match_over")) == before + 1
    out.on_ack(2, 2)
    out.count_undelivered()
    assert value(payloads_undelivered.labels("match_over")) == before + 1
