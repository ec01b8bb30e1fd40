"""States, and the snapshot that keeps them."""

import msgspec

from cloudmatch_bus.contract.deliveries import span
from cloudmatch_journal.core.states import DeviceState, Snapshot, snapshot_position
from unit.journal.test_ledger import APP, connected, counted, delivered, device, folded, left, made


def test_the_position_of_a_snapshot_is_read_alone() -> None:
    assert snapshot_position(msgspec.json.encode(Snapshot(position=7))) == 7


def test_reported_connections_are_added_to_the_device_s_own() -> None:
    states = [
        DeviceState(app="x", device="a", connected=connected, connections_reported=2)
        for connected in (False, True)
    ]
    assert [state.connections_open for state in states] == [2, 3]


def test_a_clock_that_was_ahead_for_a_while_does_not_decide_when_a_device_was_last_seen() -> None:
    for ahead in (connected(1, at=10**15), counted(span("a", "b", 7, 0, [4]), at=10**15)):
        assert device(folded(ahead)).last_seen == 10**15
        assert device(folded(ahead, delivered(1, at=10))).last_seen == 10
        ledger = folded(ahead, counted(span("b", "a", 7, 0, [4]), at=20))
        assert device(ledger).last_seen == device(ledger, "b").last_seen == 20


def test_a_repeated_match_counts_once() -> None:
    assert device(folded(made(1), made(1))).matches == 1


def test_the_same_id_in_two_apps_is_two_devices() -> None:
    other = msgspec.structs.replace(connected(1), app="other")
    ledger = folded(connected(1), other, msgspec.structs.replace(left(1), app="other"))
    assert device(ledger).connections_open == 1
    state = ledger.device("other", "a")
    assert state is not None
    assert state.connections_open == 0


def test_unknown_devices_and_matches_are_none() -> None:
    ledger = folded(connected(1))
    assert ledger.device(APP, "z") is None
    assert ledger.device("other", "a") is None
    assert ledger.match(1) is None
