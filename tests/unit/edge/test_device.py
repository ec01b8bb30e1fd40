"""A device: its commands, the updates and batches about it, and its socket."""

from typing import Any

import pytest

from cloudmatch_bus.contract.messages import (
    DeviceGone,
    DeviceReplaced,
    DeviceUnpaired,
    DeviceWaiting,
    PeerAway,
    PeerReturned,
)
from cloudmatch_edge.dialects.close_codes import (
    NORMAL,
    POLICY_VIOLATION,
    REPLACED,
    UNSUPPORTED_DATA,
)
from cloudmatch_edge.relay.device import COMMANDS, UNLIMITED, NoSocket
from cloudmatch_edge.relay.inbound import MalformedBatchError, messages_dropped
from cloudmatch_edge.relay.outbound import payloads_undelivered
from cloudmatch_edge.relay.sender import WINDOW_BYTES, WINDOW_PAYLOADS
from unit.edge.fakes import (
    CONNECTION,
    PEER_CONNECTION,
    batch,
    paired,
    texts,
    v1,
)
from unit.edge.lone import Lone


def count(metric: Any, reason: str) -> float:
    return float(metric.labels(reason)._value.get())


# -- batches


def test_batches_of_an_earlier_match_are_dropped() -> None:
    lone, before = Lone(), count(messages_dropped, "stale_match")
    lone.device.on_answer(paired(5))
    lone.device.on_batch(*batch(0, texts("old"), match=4))
    lone.device.on_batch(*batch(0, texts("new"), match=5))
    assert lone.socket.pop_texts() == ["I matched with device 'b'!", "device b says: new"]
    assert count(messages_dropped, "stale_match") == before + 1


def test_batches_that_come_before_the_update_about_their_match_wait_for_it() -> None:
    lone = Lone()
    lone.device.on_batch(*batch(1, texts("second"), match=6))
    lone.device.on_batch(*batch(0, texts("first"), match=6))
    assert lone.device.needs_resync
    assert lone.engine.calls == ["verify", "verify"]
    lone.device.on_answer(paired(6))
    assert lone.socket.pop_texts() == [
        "I matched with device 'b'!",
        "device b says: first",
        "device b says: second",
    ]
    assert not lone.device.needs_resync


def test_no_more_than_a_window_of_early_batches_waits() -> None:
    lone = Lone()
    for number in range(WINDOW_PAYLOADS + 1):
        lone.device.on_batch(*batch(number, texts(str(number)), match=6))
    assert lone.engine.calls == ["verify"] * WINDOW_PAYLOADS
    lone.device.on_answer(paired(6))
    assert len(lone.socket.pop_texts()) == 1 + WINDOW_PAYLOADS


def test_batches_that_waited_for_another_match_are_dropped() -> None:
    lone = Lone()
    lone.device.on_batch(*batch(0, texts("six"), match=6))
    lone.device.on_answer(paired(7, peer="c"))
    assert lone.socket.pop_texts() == ["I matched with device 'c'!"]
    assert not lone.device.needs_resync


def test_a_malformed_batch_is_reported_unless_it_was_early() -> None:
    lone, before = Lone(), count(messages_dropped, "malformed")
    address, payload = batch(0, texts("ciao"))
    lone.device.on_batch(address, payload[1:])
    lone.device.on_batch(address, payload)
    lone.device.on_answer(paired(5))
    assert lone.socket.pop_texts()[1:] == ["device b says: ciao"]
    with pytest.raises(MalformedBatchError):
        lone.device.on_batch(address, payload[1:])
    assert count(messages_dropped, "malformed") == before + 2


# -- updates


def test_a_match_that_was_announced_is_not_verified() -> None:
    lone = Lone()
    lone.device.on_answer(paired(5))
    lone.device.on_unannounced_match(5)
    assert lone.engine.calls == []
    lone.device.on_unannounced_match(6)
    assert lone.engine.calls == ["verify"]


def test_a_match_may_have_the_number_since_which_the_device_waits() -> None:
    lone = Lone()
    lone.device.on_answer(DeviceWaiting(connection_id=CONNECTION, since=5))
    lone.device.on_answer(paired(5))
    assert lone.device.match is not None
    lone.device.on_answer(DeviceWaiting(connection_id=CONNECTION, since=5))
    assert lone.device.match is not None
    lone.device.on_answer(DeviceUnpaired(connection_id=CONNECTION, match=5, reason="left"))
    lone.device.on_answer(paired(5))
    assert lone.device.match is None


def test_an_update_about_another_match_changes_nothing() -> None:
    lone = Lone(v1())
    away = PeerAway(connection_id=CONNECTION, match=4, peer_connection_id=PEER_CONNECTION)
    lone.device.on_answer(away)
    lone.device.on_answer(paired(5))
    lone.types()
    lone.device.on_answer(away)
    lone.device.on_answer(paired(4))
    assert lone.types() == []


def test_the_device_learns_that_its_peer_is_away_and_back_and_has_left() -> None:
    lone = Lone(v1())
    lone.device.on_answer(paired(5))
    lone.types()
    lone.device.on_answer(PeerAway(connection_id=CONNECTION, match=5, peer_connection_id=PEER_CONNECTION))
    lone.device.on_answer(
        PeerReturned(connection_id=CONNECTION, match=5, peer_edge="edge-c", peer_connection_id=30)
    )
    lone.device.on_answer(paired(5, peer_connection=31, peer_away=True))
    lone.device.on_answer(DeviceUnpaired(connection_id=CONNECTION, match=5, reason="left"))
    assert lone.types() == ["peer_away", "peer_back", "peer_away", "peer_left"]
    assert lone.socket.resumed == 1


def test_a_connection_resumes_after_what_the_device_has_received() -> None:
    lone = Lone(v1(), received=7, match=5)
    lone.device.on_answer(paired(5, met=1, peer_away=True))
    assert lone.types() == []
    assert lone.device.match is not None
    assert lone.device.match.inbound.receiver.next == 7
    assert lone.device.credit == UNLIMITED


@pytest.mark.parametrize("match", [4, None])
def test_of_a_match_that_it_does_not_name_the_device_has_received_nothing(match: int | None) -> None:
    lone = Lone(v1(), received=7, match=match)
    lone.device.on_answer(paired(5, met=1))
    assert lone.types() == []
    assert lone.device.match is not None
    assert lone.device.match.inbound.receiver.next == 0


def test_a_device_that_match_engine_has_dropped_rejoins_unless_it_is_leaving_or_disconnected() -> None:
    lone, leaving, away = Lone(v1()), Lone(v1()), Lone(v1())
    leaving.command('{"type":"leave"}')
    away.device.disconnect()
    for each in (lone, leaving, away):
        each.device.on_answer(paired(5))
        each.device.on_answer(DeviceGone(connection_id=CONNECTION))
    assert (lone.engine.calls, leaving.engine.calls, away.engine.calls) == (["rejoin"], [], ["forget"])
    assert lone.device.match is None
    assert leaving.device.match is not None


def test_a_superseded_connection_is_closed_once_and_hands_its_match_over() -> None:
    lone = Lone(v1())
    lone.device.on_answer(paired(5))
    for _ in range(2):
        lone.device.on_answer(DeviceReplaced(connection_id=CONNECTION, by=11, edge="edge-c"))
    assert lone.socket.closed == REPLACED
    assert lone.device.match in lone.matches.lingering
    assert lone.engine.calls == []


def test_a_disconnected_device_that_is_superseded_is_forgotten() -> None:
    lone = Lone(v1())
    lone.device.disconnect()
    lone.device.on_answer(DeviceReplaced(connection_id=CONNECTION))
    assert lone.socket.closed is None
    assert lone.engine.calls == ["forget"]


def test_after_a_reset_smaller_revisions_count_again() -> None:
    lone = Lone()
    lone.device.on_answer(paired(900))
    lone.device.on_batch(*batch(0, texts("early"), match=901))
    lone.device.reset()
    assert lone.device.never_synced
    lone.device.on_answer(paired(5))
    assert lone.device.match is not None
    assert not lone.device.never_synced
    assert not lone.device.needs_resync


# -- commands


def test_payloads_without_a_match_are_undeliverable() -> None:
    lone, before = Lone(v1()), count(payloads_undelivered, "no_match")
    lone.command('{"type":"message","text":"ciao"}')
    assert lone.types() == ["error"]
    assert count(payloads_undelivered, "no_match") == before + 1


def test_payloads_of_a_match_that_the_device_has_not_acknowledged_are_undeliverable() -> None:
    lone = Lone(v1())
    lone.device.on_answer(paired(5))
    lone.command('{"type":"ack","received":0,"match":5}')
    lone.device.on_answer(paired(6))
    lone.types()
    lone.command('{"type":"message","text":"for match 5"}')
    lone.command('{"type":"unmatch"}')
    assert lone.types() == ["error"]
    assert lone.engine.calls == []
    lone.command('{"type":"ack","received":0,"match":5}')
    lone.command('{"type":"ack","received":0,"match":6}')
    lone.command('{"type":"message","text":"for match 6"}')
    assert lone.types() == []
    assert lone.device.credit == (WINDOW_PAYLOADS - 1, WINDOW_BYTES - 11)


def test_an_ack_that_names_no_match_is_for_the_present_one() -> None:
    lone = Lone(v1())
    lone.command('{"type":"ack","received":1}')
    lone.device.on_answer(paired(5))
    lone.device.on_batch(*batch(0, texts("one")))
    lone.command('{"type":"ack","received":1}')
    assert lone.device.match is not None
    assert lone.device.match.inbound.receiver.delivered == 1
    assert not lone.device.names_match


def test_a_match_is_ended_once_and_takes_no_payloads_then() -> None:
    lone = Lone(v1())
    lone.command('{"type":"unmatch"}')
    lone.device.on_answer(paired(5))
    lone.types()
    lone.command('{"type":"unmatch"}')
    lone.command('{"type":"unmatch"}')
    lone.command('{"type":"message","text":"ciao"}')
    lone.device.on_answer(DeviceUnpaired(connection_id=CONNECTION, match=5, reason="unmatched"))
    assert lone.engine.calls == ["leave_match 5"]
    assert lone.types() == ["error"]


def test_a_device_may_send_so_many_frames_that_only_ask_for_an_answer() -> None:
    lone = Lone(v1(), control=2)
    lone.device.on_controls(4)
    lone.command("no message")
    lone.command('{"type":"message","text":"no match either, but this may be in flight"}')
    for _ in range(9):
        lone.bus.seconds += 0.5
        lone.command('{"type":"ping"}')
    assert lone.socket.closed is None
    lone.device.on_controls(10)
    assert lone.socket.closed is POLICY_VIOLATION


def test_a_device_that_moves_is_reported_but_not_too_often() -> None:
    lone = Lone(v1())
    for _ in range(int(COMMANDS[1]) + 1):
        lone.command('{"type":"locate","lat":1,"lon":2}')
    assert (lone.device.who.lat, lone.device.who.lon, lone.device.location_version) == (1, 2, COMMANDS[1])
    assert lone.engine.calls == ["seek"] * int(COMMANDS[1])
    assert lone.types() == ["error"]


def test_a_device_that_leaves_is_closed() -> None:
    lone = Lone(v1())
    lone.command('{"type":"leave"}')
    assert lone.device.leaving
    assert lone.socket.closed == NORMAL


def test_a_ping_is_answered() -> None:
    lone = Lone(v1())
    lone.command('{"type":"ping"}')
    assert lone.types() == ["pong"]


def test_a_device_that_violates_its_dialect_is_closed_after_the_payloads_before() -> None:
    lone = Lone()
    lone.device.on_answer(paired(5))
    lone.device.on_frames([(True, b"fine"), (False, b"binary")])
    lone.device.on_frames([(False, b"binary")])
    assert lone.socket.closed == UNSUPPORTED_DATA
    assert [payload for _, payload, _ in lone.bus.pop_published()] == [b"fine"]


def test_a_match_that_ends_while_the_device_leaves_is_not_announced_again() -> None:
    lone = Lone()
    lone.device.end_match("left")
    assert lone.socket.pop_texts() == []


# -- the socket


def test_acks_are_readable_once_the_device_sent_one_and_while_its_socket_is_read() -> None:
    lone = Lone(v1())
    assert not lone.device.acks_readable
    lone.command('{"type":"ack","received":0}')
    assert lone.device.acks_readable
    lone.socket.reading = False
    assert not lone.device.acks_readable


def test_what_a_full_socket_was_given_is_not_delivered_until_it_has_drained() -> None:
    lone = Lone()
    lone.device.on_drained()
    lone.device.on_answer(paired(5))
    lone.socket.writable = False
    lone.device.on_batch(*batch(0, texts("ciao")))
    assert lone.device.match is not None
    lone.device.match.settle()
    lone.device.on_drained()
    assert [payload.split()[0] for _, payload, _ in lone.bus.pop_published()] == [b"0", b"1"]


def test_a_disconnected_device_writes_nowhere() -> None:
    lone = Lone(v1())
    lone.device.on_answer(paired(5))
    lone.device.disconnect()
    lone.types()
    lone.device.on_answer(DeviceUnpaired(connection_id=CONNECTION, match=5, reason="left"))
    lone.device.socket.close(NORMAL, "")
    assert isinstance(lone.device.socket, NoSocket)
    assert not lone.device.socket.host_took_all()
    assert lone.types() == []


def test_a_device_that_disconnects_leaves_a_claim_of_what_it_had() -> None:
    lone = Lone(v1())
    lone.device.disconnect()
    assert lone.bus.pop_claims() == []
    lone.device.on_answer(paired(5))
    lone.device.disconnected, lone.device.socket = False, lone.socket
    lone.device.on_batch(*batch(0, texts("ciao")))
    lone.device.match.on_device_ack(1)  # type: ignore[union-attr]  # it has one
    lone.device.disconnect()
    assert lone.bus.pop_claims() == [(0, [4])]


def test_sizes_are_reported_once_for_each_payload_that_the_peer_has() -> None:
    lone = Lone()
    lone.device.on_answer(paired(5))
    lone.device.on_frames([(True, b"ciao"), (True, b"x")])
    assert lone.device.match is not None
    for _ in range(3):
        lone.device.match.on_ack(2, 1, PEER_CONNECTION)
        lone.device.match.settle()
    assert [(each.first, each.sizes) for each in lone.bus.counted] == [(0, [4])]


@pytest.mark.parametrize(
    ("ahead", "age", "later"), [(1, 2.1, True), (9e6, 1.9, False), (2e6 + 1, None, True)]
)
def test_a_connection_came_later_than_one_that_was_known_when_its_client_asked(
    ahead: int, age: float | None, later: bool
) -> None:
    lone = Lone()
    lone.bus.seconds = 2.0  # since the client asked
    answer = DeviceReplaced(connection_id=CONNECTION, by=CONNECTION + int(ahead), age=age)
    assert lone.device.came_later(answer) == later
    lone.device.resync()
    lone.device.on_answer(DeviceWaiting(connection_id=CONNECTION, since=1))
    assert not lone.device.came_later(answer), "it had the id once"
    assert lone.engine.calls == ["seek"]
