"""One end of a match: payloads, positions, where the peer is, and how it ends."""

import pytest

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import decode_position
from cloudmatch_edge.dialects.base import Send
from cloudmatch_edge.dialects.close_codes import TRY_AGAIN_LATER
from cloudmatch_edge.relay.inbound import MalformedBatchError, messages_dropped
from cloudmatch_edge.relay.outbound import payloads_undelivered
from cloudmatch_edge.relay.sender import PROBE_TIMEOUT
from unit.edge.fakes import (
    APP,
    CONNECTION,
    DEVICE,
    EDGE,
    PEER,
    PEER_CONNECTION,
    FakeMatches,
    FakeOwner,
    batch,
    classic,
    paired,
    texts,
)
from unit.edge.match_end import End, position

PATIENCE = 30.0


# -- payloads


def test_a_new_match_begins_at_once() -> None:
    end = End()
    assert end.match.prefix == subjects.ack_prefix(APP, EDGE, DEVICE, 5)
    assert end.matches.added == [end.match]
    assert end.match.accepts_payloads
    assert end.match.idle
    assert end.bus.published == []
    end.push("one")
    assert end.match in end.matches.watched
    assert end.match.sending
    assert not end.match.idle


def test_delivered_payloads_are_reported_to_the_device_which_may_send_more() -> None:
    end = End()
    end.match.push(Send(texts("one", "two"), [(0, "ref")]))
    end.match.on_ack(2, 1, PEER_CONNECTION)
    assert end.types() == ["receipt", "ack"]
    assert end.owner.socket.resumed == 1
    assert end.matches.unsettled == [end.match]
    end.match.settle()
    assert [each.sizes for each in end.bus.counted] == [[3]]


def test_what_an_earlier_connection_of_the_peer_received_is_not_where_the_peer_is() -> None:
    end = End()
    end.push("one", "two")
    end.bus.pop_published()
    end.match.on_ack(2, 1, PEER_CONNECTION - 1)
    end.match.tick(PROBE_TIMEOUT, PATIENCE)
    assert [payload for _, payload, _ in end.bus.published] == [b"onetwo"]


def test_a_batch_of_the_peer_is_written_and_watched_until_the_device_acks_it() -> None:
    end = End()
    end.match.on_batch(*batch(0, texts("one")))
    assert end.types() == ["message"]
    assert end.matches.watched == [end.match]
    assert not end.match.idle
    end.match.on_device_ack(1)
    assert end.match.idle


def test_a_batch_for_a_classic_device_is_acked_soon() -> None:
    end = End(owner=FakeOwner(classic()))
    end.match.on_batch(*batch(0, texts("one")))
    assert (end.matches.watched, end.matches.unsettled) == ([], [end.match])
    end.match.on_batch(*batch(0, texts("one")))
    assert len(end.matches.unsettled) == 1, "a duplicate is acked at once"
    assert len(end.acks()) == 1


def test_a_batch_from_where_the_peer_no_longer_is_is_dropped() -> None:
    end, counter = End(), messages_dropped.labels("superseded")
    before = counter._value.get()
    end.match.on_batch(*batch(0, texts("one"), edge="edge-old"))
    assert end.types() == []
    assert counter._value.get() == before + 1


@pytest.mark.parametrize("why", ["disconnected", "replaced", "not started", "overfull"])
def test_a_batch_that_the_device_cannot_get_is_left_to_be_retransmitted(why: str) -> None:
    end = End(received=0 if why == "not started" else None)
    setattr(end.owner.socket if why == "overfull" else end.owner, why, True)
    end.bus.pop_published()
    end.match.on_batch(*batch(0, texts("one")))
    assert end.types() == end.bus.published == []
    end.match.on_drained()
    assert len(end.positions()) == (why == "overfull")


def test_a_malformed_batch_is_reported() -> None:
    address, payload = batch(0, texts("one"))
    with pytest.raises(MalformedBatchError):
        End().match.on_batch(address, payload[1:])


def test_a_device_that_names_its_matches_confirms_each_before_it_sends() -> None:
    owner = FakeOwner()
    owner.names_match = True
    end = End(owner=owner)
    assert not end.match.accepts_payloads
    assert not end.match.may_unmatch
    end.match.on_device_ack(0)
    assert end.match.accepts_payloads
    assert end.match.may_unmatch
    end.match.unmatching = True
    assert not end.match.accepts_payloads
    assert not end.match.may_unmatch


# -- time


def test_a_silent_match_is_left() -> None:
    end = End()
    for now in (0, 10):
        end.match.check_silence(now, 10)
    assert (end.match.silent, end.owner.left_match) == (True, 1)


def test_a_peer_without_progress_costs_the_device_its_connection() -> None:
    end = End()
    end.push("one")
    end.match.tick(PATIENCE, PATIENCE)
    assert end.owner.socket.closed is None
    end.match.tick(PATIENCE + 0.1, PATIENCE)
    assert end.owner.socket.closed == TRY_AGAIN_LATER


def test_a_disconnected_peer_is_waited_for_without_retransmission() -> None:
    end = End(peer_away=True)
    end.push("one")
    end.bus.pop_published()
    end.match.tick(2 * PATIENCE, PATIENCE)
    assert end.bus.published == []
    assert end.owner.socket.closed is None


def test_the_device_is_acked_for_unless_it_is_disconnected() -> None:
    end = End()
    end.match.on_batch(*batch(0, texts("one")))
    end.owner.disconnected = True
    end.match.tick(0.05, PATIENCE)
    end.match.tick(0.1, PATIENCE)
    end.match.settle()
    assert end.acks() == []
    end.owner.disconnected = False
    end.match.tick(0.15, PATIENCE)
    end.match.tick(0.2, PATIENCE)
    assert len(end.acks()) == 1


# -- where the peer is


def test_a_peer_that_returns_elsewhere_is_back_and_gets_acks_there() -> None:
    end = End()
    end.match.on_peer_away(PEER_CONNECTION - 1)
    end.match.on_peer_away(PEER_CONNECTION)
    end.match.on_peer_away(PEER_CONNECTION)
    end.match.on_peer_returned("edge-c", PEER_CONNECTION - 1)
    assert end.types() == ["peer_away"]
    end.match.on_peer_returned("edge-c", PEER_CONNECTION + 1)
    end.match.on_peer_returned("edge-c", PEER_CONNECTION + 1)
    assert end.types() == ["peer_back"]
    assert end.match.peer.ack_prefix == subjects.ack_prefix(APP, "edge-c", PEER, 5)


def test_an_old_answer_never_makes_a_disconnected_peer_return() -> None:
    end = End()
    end.match.on_peer_away(PEER_CONNECTION)
    end.types()
    end.match.on_paired(paired(5))
    assert end.match.peer.disconnected
    end.match.on_paired(paired(5, peer_edge="edge-c", peer_connection=PEER_CONNECTION + 1))
    assert end.types() == ["peer_back"]
    end.match.on_paired(paired(5, peer_edge="edge-d", peer_connection=PEER_CONNECTION + 2, peer_away=True))
    assert end.types() == ["peer_away"]
    assert end.match.peer.edge == "edge-d"
    end.match.on_paired(paired(5, peer_connection=PEER_CONNECTION + 1, peer_away=True))
    assert end.types() == []
    end.match.verify_peer()
    assert (end.match.awaits_peer, end.owner.resyncs) == (True, 1)
    end.match.on_peer_returned("edge-d", PEER_CONNECTION + 2, 9)
    end.match.on_peer_away(PEER_CONNECTION + 2, 8)
    assert not end.match.awaits_peer


# -- positions


def test_a_connection_that_resumes_asks_where_to_continue_until_it_is_answered() -> None:
    end = End(received=3)
    assert not end.match.idle
    assert not end.match.accepts_payloads
    (asked,) = end.positions()
    assert (asked.edge, asked.connection_id, asked.to) == (EDGE, CONNECTION, 0)
    assert (asked.next, asked.delivered, asked.base) == (3, 3, None)
    end.match.tick(PROBE_TIMEOUT / 2, PATIENCE)
    assert end.positions() == []
    end.match.tick(PROBE_TIMEOUT, PATIENCE)
    assert len(end.positions()) == 1
    end.match.on_position(position(delivered=7, base=3, to=CONNECTION))
    assert end.types() == ["resumed"]
    assert end.match.accepts_payloads
    assert end.match.outbound.sender.next == 7
    end.match.on_position(position(delivered=9, base=3, to=CONNECTION))
    assert end.match.outbound.sender.next == 7, "it is answered once"


def test_a_disconnected_connection_does_not_start_any_more() -> None:
    end = End(received=0)
    end.owner.disconnected = True
    end.match.on_position(position(delivered=7, to=CONNECTION))
    assert not end.match.outbound.started


def test_a_peer_that_asks_is_answered_and_gets_what_it_lacks() -> None:
    end = End()
    end.push("one")
    end.push("two")
    end.match.on_ack(2, 0, PEER_CONNECTION)
    end.bus.pop_published()
    end.match.on_position(position(edge="edge-c", connection_id=PEER_CONNECTION + 1, next=1, delivered=1))
    sent = end.bus.pop_published()
    answer = decode_position(sent[0][1])
    assert sent[0][0].startswith(subjects.ack_prefix(APP, "edge-c", PEER, 5))
    assert (answer.to, answer.base) == (PEER_CONNECTION + 1, 0)
    assert [payload for _, payload, _ in sent[1:]] == [b"two"]
    assert end.types() == ["ack"]


def test_a_peer_that_asks_before_we_know_where_to_continue_is_answered_so() -> None:
    end = End(received=3)
    end.positions()
    end.match.on_position(position(next=2, delivered=2))
    (answer,) = end.positions()
    assert (answer.next, answer.base, answer.to) == (3, None, PEER_CONNECTION)
    end.match.on_ack(9, 9, PEER_CONNECTION)
    assert end.types() == []


def test_positions_of_an_older_connection_and_of_a_superseded_match_are_ignored() -> None:
    end = End(received=3)
    end.positions()
    end.match.on_position(position(connection_id=PEER_CONNECTION - 1))
    end.owner.replaced = True
    end.match.on_position(position())
    assert end.positions() == []


# -- numbers that devices tell


def test_an_ack_of_more_than_was_sent_counts_nothing() -> None:
    end, counter = End(), messages_dropped.labels("false_count")
    before = counter._value.get()
    end.push("one", "two")
    end.match.on_ack(3, 0, PEER_CONNECTION)
    end.match.on_ack(3, 3, PEER_CONNECTION)
    assert end.types() == []
    assert counter._value.get() == before + 2
    end.match.on_ack(2, 2, PEER_CONNECTION)
    assert end.types() == ["ack"]


def test_a_device_that_returns_with_more_than_was_sent_gets_an_error_and_what_it_lacks() -> None:
    end = End(received=1000)
    end.positions()
    end.match.on_position(position(base=1, sent=2, to=CONNECTION))
    assert end.types() == ["error", "resumed"]
    (asked,) = end.positions()
    assert (asked.next, asked.delivered, asked.to) == (1, 1, 0)
    end.match.on_batch(*batch(1, texts("two")))
    assert end.types() == ["message"]
    end.match.on_device_ack(1000)
    assert end.types() == ["error"]
    assert end.acks() == []


def test_while_the_peer_may_have_to_refuse_its_own_number_a_connection_waits() -> None:
    matches = FakeMatches()
    before = End(matches=matches, connection=1)
    before.match.connection_id = 1
    before.push("one", "two", "three")
    before.match.on_ack(2, 2, PEER_CONNECTION)
    end = End(received=0, matches=matches, previous=(1, EDGE))
    assert end.positions()[0].sent == 3
    end.match.on_position(position(next=4, delivered=4, to=CONNECTION))
    assert end.types() == []
    end.match.on_position(position(next=0, delivered=0, to=CONNECTION))
    assert end.types() == ["resumed"]
    assert end.match.outbound.sender.next == 2, "two were delivered, whatever the peer says"
    assert end.positions()[-1].base == 2


# -- the end


def test_a_match_that_is_over_keeps_listening_while_something_is_undelivered() -> None:
    done, sending = End(), End()
    sending.push("one")
    for end in (done, sending):
        end.match.end()
        assert end.match.over
        assert end.match.idle
        assert not end.match.current
    assert (done.matches.removed, done.matches.lingering) == ([done.match], [])
    assert (sending.matches.removed, sending.matches.lingering) == ([], [sending.match])
    sending.bus.pop_published()
    sending.match.tick(PROBE_TIMEOUT, PATIENCE)
    assert sending.bus.published == []
    sending.match.on_ack(1, 1, PEER_CONNECTION)
    assert sending.types() == [], "the device is in another match by now"


def test_a_closed_match_counts_what_was_not_delivered() -> None:
    counter = payloads_undelivered.labels("match_over")
    before = counter._value.get()
    end, replaced = End(), End()
    for each in (end, replaced):
        each.push("one", "two")
        each.match.on_ack(2, 1, PEER_CONNECTION)
        each.owner.replaced = each is replaced
        each.match.close()
        assert each.matches.removed == [each.match]
        assert [counted.sizes for counted in each.bus.counted] == [[3]]
    assert counter._value.get() == before + 1


def test_a_superseded_match_asks_its_successor_until_it_is_cut_off() -> None:
    end = End()
    end.push("x", "xx", "xxx")
    end.owner.replaced = True
    end.bus.pop_published()
    end.match.supersede(CONNECTION + 1, "edge-c")
    assert end.match in end.matches.watched
    assert end.matches.lingering == [end.match]
    assert not end.match.idle
    end.match.tick(PROBE_TIMEOUT, PATIENCE)
    asked = [subject for subject, _, _ in end.bus.pop_published()]
    assert asked == [f"{subjects.ack_prefix(APP, 'edge-c', DEVICE, 5)}0.{subjects.HANDOVER}"] * 2
    end.match.on_handover_reply(2, 0)
    assert end.match.idle
    assert [each.sizes for each in end.bus.counted] == [[1, 2]]
    assert end.types() == []
    end.match.on_handover_reply(2, 0)
    assert len(end.bus.counted) == 1


def test_a_connection_whose_sizes_are_all_reported_by_another_reports_none() -> None:
    end = End()
    end.push("x", "xx")
    end.match.on_handover_reply(2, 2)
    assert end.bus.counted == []
    assert end.matches.unsettled == []


def test_a_handover_reply_supersedes_a_connection_that_does_not_know_yet() -> None:
    end = End()
    end.match.on_handover_reply(0, 0)
    assert end.owner.superseded_by == (0, "")


def test_a_connection_that_never_started_passes_on_where_its_successor_began() -> None:
    end = End(received=0, previous=(3, "edge-p"))
    end.match.on_handover_reply(4, 0)
    end.bus.pop_published()
    end.match.handover.answer(3, "edge-p")
    subject, payload, _ = end.bus.pop_published()[0]
    assert subject == f"{subjects.ack_prefix(APP, 'edge-p', DEVICE, 5)}4.{subjects.HANDOVER_REPLY}"
    assert subjects.parse_handover_reply(payload) == (3, 0)


def test_what_was_delivered_is_remembered_for_a_while_and_claimed_at_the_end() -> None:
    end = End()
    for seq in range(2):
        end.match.on_batch(*batch(seq, texts("one")))
        assert end.matches.remembering == [end.match]
        end.match.on_device_ack(seq + 1)
    assert not end.match.sweep(keep=True)
    end.match.disconnect()
    assert end.bus.pop_claims() == [(0, [3, 3])]
    assert end.match.sweep(keep=False)
    end.match.on_batch(*batch(2, texts("two")))
    assert end.matches.remembering == [end.match, end.match]
