"""Answers describe the state of the connection that they name."""

from msgspec.structs import replace

from cloudmatch_bus.contract.messages import (
    DeviceGone,
    DevicePaired,
    DeviceRecord,
    DeviceReplaced,
    DeviceUnpaired,
    DeviceWaiting,
    PeerAway,
    PeerReturned,
)
from cloudmatch_match_engine.core.answers import (
    gone_or_replaced,
    peer_away,
    peer_returned,
    replaced,
    state_of,
    unpaired,
)
from cloudmatch_match_engine.core.transitions import disconnected, paired


def record(device: str, connection_id: int, edge: str = "e") -> DeviceRecord:
    return DeviceRecord(app="demo", device=device, edge=edge, connection_id=connection_id, lat=0, lon=0)


A, B = record("a", 1), record("b", 2, "f")
MATCHED_A, MATCHED_B = paired(A, B, 7, 12.5), paired(B, A, 7, 12.5)


def test_a_device_without_a_match_waits_since_its_revision() -> None:
    assert state_of(A, 5) == DeviceWaiting(connection_id=1, since=5)
    assert state_of(A, 5, B) == DeviceWaiting(connection_id=1, since=5)
    assert state_of(MATCHED_A, 5) == DeviceWaiting(connection_id=1, since=5), "its peer is not known"


def test_a_matched_device_gets_the_address_of_its_peer() -> None:
    assert state_of(MATCHED_A, 9, MATCHED_B, 8) == DevicePaired(
        connection_id=1,
        match=7,
        peer="b",
        distance=12.5,
        matched_connection_id=1,
        peer_edge="f",
        peer_connection_id=2,
        peer_away=False,
        peer_revision=8,
    )


def test_a_matched_device_gets_its_own_previous_connection_and_whether_its_peer_is_away() -> None:
    mine = replace(MATCHED_A, previous_connection_id=3, previous_edge="g", distance=None)
    answer = state_of(mine, 9, disconnected(MATCHED_B, 1000))
    assert isinstance(answer, DevicePaired)
    assert (answer.previous_connection_id, answer.previous_edge) == (3, "g")
    assert (answer.peer_away, answer.distance) == (True, 0.0)


def test_a_replaced_connection_gets_the_newer_one() -> None:
    assert replaced(A, record("a", 3, "g")) == DeviceReplaced(connection_id=1, by=3, edge="g")
    assert replaced(A, record("a", 3, "g"), 4.5).age == 4.5


def test_a_connection_that_is_not_current_is_replaced_by_a_newer_one_or_gone() -> None:
    assert gone_or_replaced(A, record("a", 3, "g")) == DeviceReplaced(connection_id=1, by=3, edge="g")
    assert gone_or_replaced(A, record("a", 0)) == DeviceGone(connection_id=1)
    assert gone_or_replaced(A, None) == DeviceGone(connection_id=1)


def test_a_peer_gets_the_address_of_a_device_that_has_returned() -> None:
    assert peer_returned(MATCHED_B, MATCHED_A, 7, 9) == PeerReturned(
        connection_id=2, match=7, peer_edge="e", peer_connection_id=1, peer_revision=9
    )


def test_a_peer_gets_the_connection_that_is_away() -> None:
    assert peer_away(MATCHED_B, MATCHED_A, 7, 9) == PeerAway(
        connection_id=2, match=7, peer_connection_id=1, peer_revision=9
    )


def test_a_peer_gets_the_reason_why_its_match_has_ended() -> None:
    assert unpaired(MATCHED_B, 7, "left") == DeviceUnpaired(connection_id=2, match=7, reason="left")
