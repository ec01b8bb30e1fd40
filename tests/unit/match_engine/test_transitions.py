"""The steps from one state of a device's record to the next."""

from typing import Any

import pytest
from msgspec.structs import replace

from cloudmatch_bus.contract.messages import (
    DeviceRecord,
    LeavePool,
    PairRecord,
    SeekPartner,
    StepAway,
    Tombstone,
)
from cloudmatch_bus.contract.resume_tokens import digest
from cloudmatch_match_engine.core.transitions import (
    announced,
    closed,
    disconnected,
    is_newer,
    is_same,
    new_record,
    pair_of,
    paired,
    resumed,
    resumes,
    tombstone_of,
    unmatched,
)


def seek(connection_id: int = 1, **more: Any) -> SeekPartner:
    fields = {"app": "demo", "device": "a", "edge": "e", "lat": 1.0, "lon": 2.0, **more}
    return SeekPartner(connection_id=connection_id, **fields)


def record(connection_id: int = 1, **more: Any) -> DeviceRecord:
    return new_record(seek(connection_id, **more))


def away(connection_id: int = 1, **more: Any) -> StepAway:
    return StepAway(app="demo", device="a", edge="e", connection_id=connection_id, **more)


MATCHED = paired(record(1), replace(record(9), device="b"), 7, 12.5)


def test_a_connection_with_a_larger_id_is_newer() -> None:
    assert is_newer(record(2), seek(1))
    assert not is_newer(seek(1), record(2))
    assert not is_newer(record(1), seek(1))


def test_of_equal_ids_on_two_edges_exactly_one_is_newer() -> None:
    one, other = seek(1, edge="e1"), seek(1, edge="e2")
    assert is_newer(other, one)
    assert not is_newer(one, other)
    assert not is_same(one, other)


def test_a_record_its_request_and_its_tombstone_name_the_same_connection() -> None:
    tombstone = Tombstone(app="demo", device="a", edge="e", connection_id=1)
    assert is_same(record(1), seek(1))
    assert is_same(tombstone, record(1))
    assert not is_same(record(1), record(2))


def test_a_new_record_waits_with_what_its_request_says() -> None:
    session = {"grace": 6.0, "token": "t"}
    request = seek(3, radius=9.0, tag="red", location_version=4, incarnation=5, **session)
    made = new_record(request)
    for field in ("app", "device", "edge", "connection_id", "lat", "lon", "radius", "tag"):
        assert getattr(made, field) == getattr(request, field), field
    assert (made.location_version, made.incarnation, made.grace, made.token) == (4, 5, 6.0, "t")
    assert (made.match, made.peer, made.disconnected_at, made.closed) == (None, None, None, False)


def test_an_announced_device_is_connected_to_the_process_that_announced_it() -> None:
    old = disconnected(record(1, incarnation=5), 1000)
    new = announced(old, seek(1, incarnation=6))
    assert (new.disconnected_at, new.incarnation) == (None, 6)


@pytest.mark.parametrize(("version", "lat"), [(2, 1.0), (3, 1.0), (4, 50.0)])
def test_an_announced_device_moves_only_to_a_newer_location(version: int, lat: float) -> None:
    new = announced(record(1, location_version=3), seek(1, lat=50.0, lon=60.0, location_version=version))
    assert new.lat == lat
    assert new.location_version == max(3, version)


@pytest.mark.parametrize(
    ("token", "request_token", "resume", "expected"),
    [
        ("t", "t", True, True),
        ("t", digest("t"), True, True),  # the record is of an earlier version
        (digest("t"), digest("t"), True, True),
        ("t", "t", False, False),
        ("t", "u", True, False),
        (digest("t"), digest("u"), True, False),
        ("", "", True, False),
    ],
)
def test_a_session_is_resumed_only_on_request_with_its_token(
    token: str, request_token: str, resume: bool, expected: bool
) -> None:
    assert resumes(record(1, token=token), seek(2, token=request_token, resume=resume)) is expected


def test_a_resumed_session_keeps_its_match_and_names_the_previous_connection() -> None:
    old = disconnected(MATCHED, 1000)
    new = resumed(old, seek(2, edge="f", lat=50.0, radius=9.0, tag="red", grace=8.0, location_version=4))
    assert (new.match, new.peer, new.matched_connection_id) == (7, "b", 1)
    assert (new.connection_id, new.edge, new.disconnected_at, new.closed) == (2, "f", None, False)
    assert (new.previous_connection_id, new.previous_edge, new.may_have_sent) == (1, "e", True)
    assert (new.lat, new.radius, new.tag, new.grace, new.location_version) == (50.0, 9.0, "red", 8.0, 4)


def test_a_resumed_session_names_the_last_connection_that_may_have_sent() -> None:
    never_sent = closed(resumed(MATCHED, seek(2, edge="f")), away(2, may_have_sent=False), 1000)
    new = resumed(never_sent, seek(3, edge="g"))
    assert (new.previous_connection_id, new.previous_edge) == (1, "e")


def test_a_paired_device_names_its_peer_and_the_connection_that_was_matched() -> None:
    before = replace(
        record(1), last_peer="c", previous_connection_id=4, previous_edge="f", may_have_sent=False
    )
    new = paired(before, replace(record(9), device="b"), 7, 12.5)
    assert (new.match, new.peer, new.distance, new.matched_connection_id) == (7, "b", 12.5, 1)
    assert (new.last_peer, new.previous_connection_id, new.previous_edge) == (None, 0, "")
    assert new.may_have_sent


def test_a_match_is_recorded_with_both_devices() -> None:
    pair = pair_of(record(1), replace(record(9), device="b"), 7, 12.5, 1000, "nonce")
    assert pair == PairRecord(
        app="demo", match=7, device="a", peer="b", at=1000, distance=12.5, nonce="nonce"
    )


def test_an_unmatched_device_waits_again_and_remembers_a_peer_it_left() -> None:
    assert unmatched(MATCHED) == replace(record(1))
    assert unmatched(MATCHED, last_peer="b").last_peer == "b"


def test_a_grace_starts_once() -> None:
    assert disconnected(record(1), 1000).disconnected_at == 1000
    assert disconnected(disconnected(record(1), 1000), 2000).disconnected_at == 1000


@pytest.mark.parametrize("may_have_sent", [True, False])
def test_a_closed_connection_starts_the_grace_and_says_whether_it_may_have_sent(may_have_sent: bool) -> None:
    new = closed(MATCHED, away(1, may_have_sent=may_have_sent), 1000)
    assert new == replace(MATCHED, closed=True, may_have_sent=may_have_sent, disconnected_at=1000)


def test_a_closed_connection_that_never_entered_replaces_the_older_one() -> None:
    request = StepAway(app="demo", device="a", edge="f", connection_id=2)
    new = closed(MATCHED, request, 1000)
    assert (new.connection_id, new.edge, new.closed, new.may_have_sent) == (2, "f", True, False)
    assert (new.previous_connection_id, new.previous_edge) == (1, "e")
    assert (new.match, new.disconnected_at) == (7, 1000)


def test_a_tombstone_names_the_match_that_ends_with_the_connection() -> None:
    tombstone = tombstone_of(MATCHED, "expired")
    assert (tombstone.app, tombstone.device, tombstone.edge, tombstone.connection_id) == ("demo", "a", "e", 1)
    assert (tombstone.match, tombstone.peer, tombstone.reason) == (7, "b", "expired")


def test_a_tombstone_of_a_request_names_the_match_that_the_edge_knows() -> None:
    request = LeavePool(app="demo", device="a", edge="e", connection_id=1, match=7, peer="b")
    assert (tombstone_of(request, "left").match, tombstone_of(request, "left").peer) == (7, "b")
    assert tombstone_of(away(1), "left").match is None
