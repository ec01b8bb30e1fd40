"""From the peer to a device: order, acks, gaps."""

import json

import pytest

from cloudmatch_bus.contract import subjects
from cloudmatch_edge.relay.book import Direction
from cloudmatch_edge.relay.inbound import Inbound, MalformedBatchError, payloads_missing
from cloudmatch_edge.relay.peer import Peer
from cloudmatch_edge.relay.receiver import ACK_EVERY, DEVICE_ACK_TIMEOUT
from cloudmatch_edge.relay.sender import WINDOW_PAYLOADS
from unit.edge.fakes import (
    APP,
    CONNECTION,
    DEVICE,
    PEER,
    PEER_CONNECTION,
    PEER_EDGE,
    FakeBus,
    FakeOwner,
    batch,
    classic,
    paired,
    texts,
)


class End:
    """A receiving end with its fakes."""

    def __init__(self, *, acknowledges: bool, base: int | None = None) -> None:
        self.bus = FakeBus()
        self.owner = FakeOwner() if acknowledges else FakeOwner(classic())
        self.inbound = Inbound(self.bus, self.owner, Peer(APP, paired(5)), 5, base)

    def acks(self) -> list[tuple[int, int]]:
        """Return (received, delivered) of the acks published since the last call; check whom they are for."""
        found = []
        for subject, payload, _ in self.bus.pop_published():
            prefix, received, shape = subject.rsplit(".", 2)
            assert (f"{prefix}.", shape) == (subjects.ack_prefix(APP, PEER_EDGE, PEER, 5), subjects.ACK)
            delivered, connection, to = subjects.parse_ack(payload) or (-1, -1, -1)
            assert (connection, to) == (CONNECTION, PEER_CONNECTION)
            found.append((int(received), delivered))
        return found


def test_what_the_socket_of_a_classic_device_took_is_delivered_and_acked_soon() -> None:
    end = End(acknowledges=False)
    assert not end.inbound.on_batch(*batch(0, texts("one", "two")))
    assert end.owner.socket.pop_texts() == ["device b says: one", "device b says: two"]
    assert end.acks() == []
    assert end.inbound.ack_soon
    assert end.inbound.idle
    end.inbound.ack()
    end.inbound.ack()
    assert end.acks() == [(2, 2)]


def test_many_payloads_are_acked_at_once() -> None:
    end = End(acknowledges=False)
    end.inbound.on_batch(*batch(0, texts(*["x"] * ACK_EVERY)))
    assert end.acks() == [(ACK_EVERY, ACK_EVERY)]
    assert not end.inbound.ack_soon


def test_while_writing_is_paused_nothing_is_delivered_until_the_socket_has_drained() -> None:
    end = End(acknowledges=False)
    end.owner.socket.writable = False
    end.inbound.on_batch(*batch(0, texts("one")))
    end.inbound.ack()
    assert end.acks() == [(1, 0)]
    end.inbound.on_socket_drained()
    assert end.acks() == [(1, 1)]


def test_a_drained_socket_delivers_nothing_to_a_device_that_acknowledges() -> None:
    end = End(acknowledges=True)
    end.inbound.on_batch(*batch(0, texts("one")))
    end.inbound.on_socket_drained()
    assert end.acks() == []


def test_payloads_for_a_device_that_acknowledges_wait_for_its_ack() -> None:
    end = End(acknowledges=True)
    assert end.inbound.on_batch(*batch(0, texts(*["x"] * ACK_EVERY)))
    assert not end.inbound.ack_soon
    assert not end.inbound.idle
    end.inbound.on_device_ack(3)
    end.inbound.on_device_ack(3)
    assert end.acks() == [(ACK_EVERY, 3)]
    end.inbound.on_device_ack(ACK_EVERY)
    assert end.inbound.idle
    assert end.acks() == [(ACK_EVERY, ACK_EVERY)]


def test_a_duplicate_is_acked_at_once_and_an_early_batch_waits() -> None:
    end = End(acknowledges=True)
    end.inbound.on_batch(*batch(0, texts("one")))
    assert not end.inbound.on_batch(*batch(2, texts("three")))
    assert end.acks() == []
    assert not end.inbound.on_batch(*batch(0, texts("one")))
    assert end.acks() == [(1, 0)]
    assert end.inbound.on_batch(*batch(1, texts("two")))
    assert [json.loads(text)["n"] for text in end.owner.socket.pop_texts()] == [1, 2, 3]


def test_a_device_that_has_not_acked_for_a_whole_interval_is_acked_for() -> None:
    end = End(acknowledges=True)
    end.inbound.on_batch(*batch(0, texts("one")))
    end.inbound.tick(0.05)
    assert end.acks() == []
    end.inbound.tick(0.1)
    assert end.acks() == [(1, 0)]


def test_a_device_that_never_acks_is_assumed_to_have_half_a_window() -> None:
    end = End(acknowledges=True)
    end.owner.acks_readable = False
    end.inbound.on_batch(*batch(0, texts(*["x"] * (WINDOW_PAYLOADS // 2))))
    end.inbound.tick(DEVICE_ACK_TIMEOUT)
    assert end.acks() == [(WINDOW_PAYLOADS // 2, WINDOW_PAYLOADS // 2)]


def test_a_device_that_never_acks_and_never_reads_is_assumed_to_have_nothing() -> None:
    end = End(acknowledges=True)
    end.owner.acks_readable = end.owner.socket.taken = False
    end.inbound.on_batch(*batch(0, texts(*["x"] * WINDOW_PAYLOADS)))
    end.inbound.tick(DEVICE_ACK_TIMEOUT)
    end.inbound.tick(2 * DEVICE_ACK_TIMEOUT)
    assert end.acks() == [(WINDOW_PAYLOADS, 0)]


def test_a_classic_device_has_nothing_overdue() -> None:
    end = End(acknowledges=False)
    end.inbound.on_batch(*batch(0, texts("one")))
    end.inbound.tick(1)
    end.inbound.tick(2)
    assert end.acks() == []


def test_a_gap_is_reported_counted_and_acked() -> None:
    before = payloads_missing._value.get()
    end = End(acknowledges=True, base=3)
    end.inbound.skip(3)
    assert end.owner.socket.pop_texts() == []
    end.inbound.skip(5)
    (gap,) = map(json.loads, end.owner.socket.pop_texts())
    assert (gap["type"], gap["from"], gap["to"]) == ("gap", 4, 5)
    assert end.acks() == [(5, 5)]
    assert payloads_missing._value.get() == before + 2


def test_a_batch_whose_shape_does_not_fit_is_malformed() -> None:
    end = End(acknowledges=True)
    address, payload = batch(0, texts("one"))
    with pytest.raises(MalformedBatchError, match="shape"):
        end.inbound.on_batch(address, payload + b"x")
    assert end.owner.socket.pop_texts() == []


def test_what_was_delivered_is_claimed_once() -> None:
    end = End(acknowledges=True)
    end.inbound.on_batch(*batch(0, texts("one", "three")))
    end.inbound.claim()
    assert end.bus.pop_claims() == []
    end.inbound.on_device_ack(1)
    end.inbound.claim()
    end.inbound.claim(last=True)
    assert end.bus.claims[0].direction == Direction(APP, 5, PEER, DEVICE)
    assert end.bus.pop_claims() == [(0, [3])]
    end.inbound.on_device_ack(2)
    end.inbound.claim(last=True)
    assert end.bus.pop_claims() == [(1, [5])]


def test_what_is_delivered_after_a_claim_and_had_come_before_it_is_claimed_then() -> None:
    end = End(acknowledges=True)
    end.inbound.on_batch(*batch(0, texts("one", "three", "two")))
    end.inbound.on_device_ack(1)
    end.inbound.claim()
    end.inbound.on_batch(*batch(3, texts("by another edge")))
    assert end.bus.pop_claims() == [(0, [3])]
    end.inbound.on_device_ack(2)
    assert end.bus.pop_claims() == [(1, [5])]
    end.inbound.on_device_ack(4)
    assert end.bus.pop_claims() == [(2, [3, 15])]
    end.inbound.on_batch(*batch(4, texts("x")))
    end.inbound.on_device_ack(5)
    assert end.bus.pop_claims() == []


def test_what_a_device_says_to_have_received_is_claimed_only_once_it_was_checked() -> None:
    end = End(acknowledges=True, base=1000)
    end.inbound.claim(last=True)
    assert end.bus.pop_claims() == []


def test_a_refused_number_makes_way_for_what_is_possible() -> None:
    end = End(acknowledges=True, base=1000)
    end.inbound.refuse(2, 1)
    (error,) = map(json.loads, end.owner.socket.pop_texts())
    assert error["code"] == "bad_count"
    end.inbound.on_batch(*batch(1, texts("two")))
    end.inbound.on_device_ack(2)
    end.inbound.claim()
    assert end.bus.pop_claims() == [(1, [3])]


def test_a_number_beyond_what_came_is_refused_and_counts_nothing() -> None:
    end = End(acknowledges=True)
    end.inbound.on_batch(*batch(0, texts("one", "two")))
    end.owner.socket.pop_texts()
    end.inbound.on_device_ack(3)
    (error,) = map(json.loads, end.owner.socket.pop_texts())
    assert (error["type"], error["code"]) == ("error", "bad_count")
    assert end.acks() == []
    assert end.inbound.receiver.delivered == 0


def test_batches_that_came_early_are_claimed_with_their_sizes() -> None:
    end = End(acknowledges=False)
    end.inbound.on_batch(*batch(1, texts("two", "three")))
    end.inbound.on_batch(*batch(0, texts("x", "two")))
    end.inbound.on_batch(*batch(0, texts("x", "two")))
    end.inbound.claim()
    assert end.bus.pop_claims() == [(0, [1, 3, 5])]


def test_a_connection_that_continued_a_match_claims_once_what_earlier_ones_delivered() -> None:
    end = End(acknowledges=True, base=7)
    end.inbound.checked = True
    end.inbound.claim()
    assert end.bus.pop_claims() == []
    end.inbound.claim(last=True)
    end.inbound.claim(last=True)
    assert end.bus.pop_claims() == [(7, [])]


def test_before_a_gap_is_reported_what_was_delivered_is_claimed() -> None:
    end = End(acknowledges=True)
    end.inbound.on_batch(*batch(0, texts("one", "three")))
    end.inbound.on_device_ack(1)
    end.inbound.skip(5)
    assert end.bus.pop_claims() == [(0, [3])]
    end.inbound.on_batch(*batch(5, texts("x")))
    end.inbound.on_device_ack(6)
    end.inbound.claim()
    assert end.bus.pop_claims() == [(5, [1])]
