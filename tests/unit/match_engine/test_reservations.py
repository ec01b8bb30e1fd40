"""Devices about to be matched, and devices that are matched though the mirror does not show it yet."""

from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_match_engine.core.roster import Roster
from cloudmatch_match_engine.pairing.reservations import Reservations


def record(device: str) -> DeviceRecord:
    return DeviceRecord(app="x", device=device, edge="e", connection_id=1, lat=0, lon=0)


def pair(reservations: Reservations, revision: int) -> None:
    """Claim a and b; write the match at `revision` (0: not at all)."""
    with reservations.claim(record("a"), record("b")) as claim:
        claim.revision = revision


def test_a_claim_holds_until_the_mirror_shows_it() -> None:
    roster = Roster()
    reservations = Reservations(roster)
    pair(reservations, 7)
    assert reservations.of(record("a")) is not None
    roster.advance(6)
    assert reservations.of(record("b")) is not None
    roster.advance(7)
    assert reservations.of(record("a")) is None
    assert reservations.of(record("b")) is None


def test_a_claim_that_was_not_written_ends_at_once() -> None:
    reservations = Reservations(Roster())
    pair(reservations, 0)
    assert reservations.of(record("a")) is None


def test_a_claim_of_a_bucket_that_was_lost_ends_when_the_mirror_is_complete_again() -> None:
    roster = Roster()
    reservations = Reservations(roster)
    pair(reservations, 1_000)
    roster.restart()
    assert reservations.of(record("a")) is not None
    roster.complete()
    assert reservations.of(record("a")) is None
    pair(reservations, 5)  # in the new bucket
    roster.advance(5)
    assert reservations.of(record("a")) is None
