"""An explanation names each rule that keeps two devices apart, in a sentence."""

from functools import partial

import pytest
from msgspec.structs import replace

from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_match_engine.core.distances import Told
from cloudmatch_match_engine.core.explain import NEAREST, Explanation, explain, survey
from cloudmatch_match_engine.core.keys import device_id
from cloudmatch_match_engine.core.matcher import PLANAR_REACH, suits
from cloudmatch_match_engine.core.roster import Roster

NOW = 100.0  # s, of a clock that no record knows
BEGAN = 1_700_000_000_000  # ms, of any clock


def at(lat: float, name: str, **more: object) -> DeviceRecord:
    return replace(DeviceRecord(app="demo", device=name, edge="e", connection_id=1, lat=lat, lon=0), **more)


def about(
    me: DeviceRecord, *others: DeviceRecord, since: float = NOW - 12, how: Told = "exact"
) -> Explanation:
    roster = Roster()
    for revision, record in enumerate((me, *others), 1):
        roster.put(device_id(record.app, record.device), record, revision, since)
    absent = partial(roster.absent_for, now=NOW)
    return explain(me, survey(me, roster.everyone()), PLANAR_REACH, absent, how)


@pytest.mark.parametrize(
    ("me", "other", "rules", "words"),
    [
        (
            at(0, "a"),
            at(1, "b", tag="red"),
            ["tag"],
            "b, 111,195 m away, has the tag 'red', and a has no",
        ),
        (at(0, "a", radius=250.0), at(1, "b"), ["own_reach"], "is too far away: a reaches 250 m."),
        (at(0, "a"), at(1, "b", radius=7.5), ["their_reach"], "does not reach that far: b reaches 7.50 m."),
        (
            at(0, "a"),
            at(2, "b"),
            ["own_reach", "their_reach"],
            "less than 1.42° on a flat map, and the distance is 2°",
        ),
        (at(0, "a"), at(1, "b", match=7, peer="c"), ["matched"], "is in a match with c."),
        (
            at(0, "a"),
            at(1, "b", disconnected_at=BEGAN, grace=30.0),
            ["away"],
            "b, 111,195 m away, has been disconnected for 12 s of at most 30 s.",
        ),
        (at(0, "a", last_peer="b"), at(1, "b"), ["former"], "has left a match with a"),
        (at(0, "a"), at(1, "b", last_peer="a"), ["former"], "has left a match with a"),
        (at(0, "a"), at(1, "b"), [], "should be in a moment."),
    ],
)
def test_each_rule_that_keeps_two_apart_is_named(
    me: DeviceRecord, other: DeviceRecord, rules: list[str], words: str
) -> None:
    (neighbour,) = about(me, other).nearest
    assert neighbour.rules == rules
    assert words in neighbour.sentence
    free = other.match is None and other.disconnected_at is None
    assert (suits(me, other) and free) == (not rules)


def test_a_device_that_waits_alone_has_no_neighbours() -> None:
    alone = about(at(0, "a"), replace(at(0, "b"), app="other"))
    assert (alone.state, alone.waiting, alone.nearest) == ("waiting", 1, [])
    assert alone.sentence == "a waits, and nobody else waits in app 'demo'."


def test_the_nearest_devices_are_named_nearest_first() -> None:
    crowd = about(at(0, "a"), *(at(50 - i, f"d{i}") for i in range(9)))
    assert crowd.waiting == 10
    assert crowd.sentence == "a waits, and so do 9 others in app 'demo'."
    assert [n.device for n in crowd.nearest] == ["d8", "d7", "d6", "d5", "d4"]
    assert len(crowd.nearest) == NEAREST


def test_a_device_that_does_not_wait_is_matched_or_away() -> None:
    matched = about(at(0, "a", match=7, peer="b", distance=12.0), at(1, "c"))
    assert (matched.state, matched.sentence) == ("matched", "a is in match 7 with b, 12 m away.")
    away = about(at(0, "a", disconnected_at=BEGAN, grace=30.0), at(1, "c"), since=NOW - 3)
    assert (away.state, away.sentence) == ("away", "a has been disconnected for 3 s of at most 30 s.")
    assert away.waiting == 1


def test_an_explanation_tells_of_distances_what_devices_are_told() -> None:
    me, far = at(0, "a"), at(2, "b", tag="red")
    (rounded,) = about(me, far, how="rounded").nearest
    assert rounded.distance == 220_000
    assert "b, 220,000 m away, has the tag 'red'" in rounded.sentence
    assert "reaches less than 1.42° on a flat map." in rounded.sentence
    (silent,) = about(me, far, how="none").nearest
    assert silent.distance == 0
    assert silent.sentence.startswith("b has the tag 'red'")
    assert silent.rules == rounded.rules
    assert about(at(0, "a", match=7, peer="b", distance=0.0)).sentence == "a is in match 7 with b."
