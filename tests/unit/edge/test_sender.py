"""The sending end: batches, credit, retransmission, and what it reports as delivered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract.payloads import BATCH_PAYLOADS, Payload
from cloudmatch_edge.relay.paths import ALTERNATIVES, FALLBACK, MAIN
from cloudmatch_edge.relay.sender import (
    PROBE_INTERVAL,
    PROBE_INTERVAL_MAX,
    PROBE_TIMEOUT,
    WINDOW_BYTES,
    WINDOW_PAYLOADS,
    Sender,
)


def some(count: int, size: int = 1) -> list[Payload]:
    return [(True, bytes([65 + i % 26]) * size) for i in range(count)]


def test_payloads_of_one_turn_travel_in_one_batch_up_to_its_limits() -> None:
    sender = Sender()
    assert [b.end - b.seq for b in sender.push(some(130), 0)] == [64, 64, 2]
    assert sender.next == sender.undelivered == 130


def test_credit_ends_with_the_window_of_payloads_or_of_bytes_and_returns_with_acks() -> None:
    sender = Sender()
    sender.push(some(WINDOW_PAYLOADS), 0)
    assert sender.credit == (0, WINDOW_BYTES - WINDOW_PAYLOADS)
    sender.on_ack(64, 64, 0)
    assert sender.credit == (64, WINDOW_BYTES - WINDOW_PAYLOADS + 64)


@pytest.mark.parametrize("size", [WINDOW_BYTES, 2 * WINDOW_BYTES])
def test_one_payload_however_large_leaves_credit_for_the_acks_behind_it(size: int) -> None:
    sender = Sender()
    sender.push(some(1, size), 0)
    assert sender.credit == (WINDOW_PAYLOADS - 1, 1)
    sender.push(some(1), 0)
    assert sender.credit == (WINDOW_PAYLOADS - 2, WINDOW_BYTES - size - 1)
    sender.on_ack(2, 2, 0)
    assert sender.credit == (WINDOW_PAYLOADS, WINDOW_BYTES)


def test_a_full_payload_is_let_through_behind_smaller_ones_in_flight() -> None:
    sender = Sender()
    sender.push(some(WINDOW_BYTES - 1, 1)[: WINDOW_PAYLOADS - 2] + some(1, WINDOW_BYTES // 2), 0)
    assert min(sender.credit) > 0
    assert [len(batch.payload) for batch in sender.push(some(1, WINDOW_BYTES), 0)] == [WINDOW_BYTES]
    assert sender.credit[1] < 0


def test_a_timeout_probes_with_the_oldest_batch_only_and_by_another_path() -> None:
    sender = Sender()
    first, second = sender.push(some(BATCH_PAYLOADS), 0)[0], sender.push(some(1), 0)[0]
    assert sender.retransmit_due(PROBE_TIMEOUT / 2) is None
    assert sender.retransmit_due(PROBE_TIMEOUT) is first
    assert first.path != MAIN
    assert second.path == MAIN
    assert sender.retransmit_due(PROBE_TIMEOUT) is None, "the probe was just sent"


def test_probes_try_all_paths_before_they_back_off() -> None:
    sender = Sender()
    batch = sender.push(some(1), 0)[0]
    paths = []
    for i in range(1, 1 + len(ALTERNATIVES)):
        assert sender.retransmit_due(PROBE_TIMEOUT + (i - 1) * PROBE_INTERVAL) is batch
        paths.append(batch.path)
    assert sorted(paths) == sorted(ALTERNATIVES)


def test_once_the_probe_is_acked_all_batches_by_the_dead_path_are_retransmitted_by_the_other() -> None:
    sender = Sender()
    sender.push(some(1), 0)
    late = sender.push(some(1), PROBE_TIMEOUT - 0.01)
    probe = sender.retransmit_due(PROBE_TIMEOUT)
    assert probe is not None
    sender.push(some(1), PROBE_TIMEOUT)  # this one goes by the other path already
    assert sender.on_ack(probe.end, probe.end, PROBE_TIMEOUT + 0.01) == late
    assert late[0].path == probe.path


def test_once_the_probe_is_acked_all_overdue_batches_are_retransmitted_once() -> None:
    sender = Sender()
    for _ in range(5):
        sender.push(some(1), 0)
    probe = sender.retransmit_due(PROBE_TIMEOUT)
    assert probe is not None
    assert [b.seq for b in sender.on_ack(probe.end, probe.end, PROBE_TIMEOUT)] == [1, 2, 3, 4]
    assert sender.on_ack(2, 2, PROBE_TIMEOUT) == [], "and only once"


def test_probes_back_off_to_one_second_and_an_ack_resets_them() -> None:
    sender = Sender()
    sender.push(some(2), 0)
    now, gaps = 0.0, []
    for _ in range(len(ALTERNATIVES) + 4):
        start = now
        while sender.retransmit_due(now) is None:
            now += 0.125
        gaps.append(now - start)
    assert gaps == [PROBE_TIMEOUT, *[PROBE_INTERVAL] * (len(ALTERNATIVES) - 1), 0.25, 0.5, 1.0, 1.0]
    sender.on_ack(2, 2, now)
    sender.push(some(1), now)
    assert sender.retransmit_due(now + PROBE_TIMEOUT) is not None


def test_a_path_without_responders_leads_to_the_fallback_at_once_and_for_half_a_second() -> None:
    sender = Sender()
    batch = sender.push(some(1), 0)[0]
    assert sender.no_responders(batch.seq, 0.01) is batch
    assert batch.path == FALLBACK
    assert sender.push(some(1), 0.4)[0].path == FALLBACK
    assert sender.push(some(1), 0.6)[0].path == MAIN
    assert sender.no_responders(batch.seq, 0.02) is None, "no responders there either: wait for the timer"
    assert sender.no_responders(99, 0.02) is None, "acked meanwhile"


def test_progress_is_when_something_was_last_delivered_or_the_window_began_to_fill() -> None:
    sender = Sender()
    sender.push(some(1), 5.0)
    sender.push(some(1), 8.0)
    assert sender.progress == 5.0
    sender.on_ack(1, 1, 9.0)
    assert sender.progress == 9.0


def test_what_was_received_is_not_retransmitted_but_kept_until_it_is_delivered() -> None:
    sender = Sender()
    sender.push(some(2), 0)
    assert sender.on_ack(2, 0, 0.1) == []
    assert (sender.undelivered, sender.idle) == (2, False)
    assert sender.retransmit_due(PROBE_TIMEOUT + 0.1) is None
    sender.on_ack(2, 2, 0.2)
    assert sender.idle


def test_a_batch_whose_delivery_is_never_acked_is_retransmitted() -> None:
    sender = Sender()
    batch = sender.push(some(1), 0)[0]
    sender.on_ack(1, 0, 0.1)
    assert sender.retransmit_due(PROBE_INTERVAL_MAX) is batch


def test_after_the_peer_moved_batches_that_its_new_edge_lacks_are_retransmitted() -> None:
    sender = Sender()
    batches = [sender.push(some(3), 0)[0] for _ in range(3)]
    sender.on_ack(9, 4, 0.1)
    assert sender.resync(5, 5, 0.2) == batches[1:]
    assert (sender.delivered, sender.undelivered) == (5, 4)
    assert sender.on_ack(9, 9, 0.3) == []
    assert sender.idle


def test_sizes_are_reported_once_when_payloads_are_delivered_even_part_of_a_batch() -> None:
    sender = Sender()
    sender.push([(True, b"x" * n) for n in range(1, 6)], 0)
    sender.on_ack(5, 2, 0)
    assert sender.pop_delivered_sizes() == (0, [1, 2])
    sender.on_ack(2, 4, 0)
    sender.on_ack(2, 3, 0)
    assert sender.pop_delivered_sizes() == (2, [3, 4])
    sender.resync(5, 5, 0)
    assert sender.pop_delivered_sizes() == (4, [5])
    assert sender.pop_delivered_sizes() == (5, [])


def test_a_sender_starts_where_the_one_before_stopped() -> None:
    sender = Sender(7)
    assert [b.seq for b in sender.push(some(2), 0)] == [7]
    sender.on_ack(99, 99, 0)
    assert (sender.delivered, sender.idle) == (9, True)


def test_a_batch_without_responders_on_any_path_keeps_its_timer() -> None:
    sender = Sender()
    sender.push(some(1), 0)
    later = sender.push(some(1), 0)[0]
    assert sender.no_responders(later.seq, 0.1) is later
    assert later.path == FALLBACK
    assert sender.no_responders(later.seq, 0.2) is None
    assert sender.retransmit_due(PROBE_TIMEOUT) is not None


def test_sizes_that_another_connection_reports_are_skipped() -> None:
    sender = Sender()
    sender.push([(True, b"x" * n) for n in range(1, 6)], 0)
    sender.on_ack(1, 1, 0)
    assert sender.skip_sizes(3) == (0, [1])
    assert sender.skip_sizes(2) == (3, [])
    assert (sender.delivered, sender.undelivered) == (3, 2)
    sender.on_ack(5, 5, 0)
    assert sender.sizes_pending == 2
    assert sender.pop_delivered_sizes() == (3, [4, 5])


Step = tuple[str, int, int]
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(
        st.sampled_from(["push", "ack", "resync", "skip", "pop"]), st.integers(0, 150), st.integers(0, 150)
    )
)


@given(base=st.integers(0, 100), steps=STEPS)
def test_every_size_is_reported_once_by_its_number_or_skipped(base: int, steps: list[Step]) -> None:
    sender = Sender(base)
    reported: dict[int, int] = {}
    skipped: set[int] = set()

    def report(first: int, sizes: list[int]) -> None:
        for number, size in enumerate(sizes, first):
            assert number not in reported
            reported[number] = size

    for step, one, other in [*steps, ("pop", 0, 0)]:
        match step:
            case "push":
                payloads = [(True, b"x" * number) for number in range(sender.next, sender.next + one)]
                sender.push(payloads, 0)
            case "ack":
                sender.on_ack(one, other, 0)
            case "resync":
                sender.resync(one, other, 0)
            case "skip":
                before = sender.delivered
                report(*sender.skip_sizes(one))
                skipped |= set(range(before, sender.delivered))
            case "pop":
                report(*sender.pop_delivered_sizes())
    assert {*reported} == {*range(base, sender.delivered)} - skipped
    assert all(number == size for number, size in reported.items())


def test_a_peer_that_moved_backwards_keeps_what_was_delivered() -> None:
    sender = Sender()
    sender.push(some(2), 0)
    sender.on_ack(2, 2, 0)
    assert sender.resync(2, 1, 0.1) == []
    assert sender.delivered == 2


def test_after_a_probe_newer_batches_on_the_same_path_wait_for_their_own_timeout() -> None:
    sender = Sender()
    sender.push(some(1), 0)
    assert sender.retransmit_due(PROBE_TIMEOUT) is not None
    new = sender.push(some(1), PROBE_TIMEOUT)
    assert sender.on_ack(1, 1, PROBE_TIMEOUT + 0.01) == []
    assert sender.retransmit_due(2 * PROBE_TIMEOUT) is new[0]
