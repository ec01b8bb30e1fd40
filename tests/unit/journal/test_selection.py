"""Which events are selected."""

import pytest

from cloudmatch_bus.contract.deliveries import Claim, span
from cloudmatch_bus.contract.messages import MatchMade, PayloadsDelivered
from cloudmatch_journal.core import segments
from cloudmatch_journal.core.selection import Moment, Selection, parse_moment
from unit.journal.samples import claimed, counted

MATCHED = segments.to_document(10, MatchMade(app="x", at=1000, match=1, device="a", peer="b", distance=0))
DELIVERED = segments.to_document(
    20, PayloadsDelivered(app="y", at=2000, match=1, sender="b", receiver="c", sizes=[4])
)
BOTH = [MATCHED, DELIVERED]
KEYS = [segments.device_key(d["app"], name) for d in BOTH for name in segments.devices(d)]
SEAL = segments.make_seal(BOTH, segments.encode_lines(BOTH, 0), KEYS)


@pytest.mark.parametrize(
    ("selection", "selected"),
    [
        (Selection(), [10, 20]),
        (Selection(after=Moment(position=10)), [20]),
        (Selection(until=Moment(position=10)), [10]),
        (Selection(after=Moment(at=1000)), [20]),
        (Selection(until=Moment(at=1999)), [10]),
        (Selection(kind="matched"), [10]),
        (Selection(app="y"), [20]),
        (Selection(device="b"), [10, 20]),
        (Selection(device="c"), [20]),
        (Selection(app="x", device="c"), []),
        (Selection(after=Moment(position=5), until=Moment(at=5000), app="y", device="b"), [20]),
    ],
)
def test_an_event_is_selected_when_all_conditions_hold(selection: Selection, selected: list[int]) -> None:
    assert [d["position"] for d in BOTH if selection.includes(d)] == selected
    if selected:
        assert selection.may_include(SEAL)


def test_a_batch_of_deliveries_is_selected_as_what_it_is_shown_as() -> None:
    batch = segments.to_document(*counted(30, span("a", "b", 1, 0, [4]), span("c", "d", 2, 0, [4])))
    claims = segments.to_document(*claimed(31, Claim("a", "b", 1, 1)))
    assert Selection(kind="delivered", device="d").includes(batch)
    assert not Selection(kind="delivered", device="4").includes(batch)
    assert not Selection(kind="delivered").includes(claims)
    assert not Selection(kind="claimed").includes(batch)
    assert Selection(kind="claimed", device="a").includes(claims)


def test_a_segment_that_cannot_include_a_selected_event_is_skipped() -> None:
    assert not Selection(after=Moment(position=20)).may_include(SEAL)
    assert not Selection(until=Moment(position=9)).may_include(SEAL)
    assert not Selection(app="x", device="c").may_include(SEAL)


def test_a_moment_is_a_position_or_a_time() -> None:
    assert parse_moment("1795528339602417") == Moment(position=1795528339602417)
    assert parse_moment("2026-11-24T10:00:00Z") == parse_moment("2026-11-24T11:00:00+01:00")
    assert parse_moment("1970-01-01T00:00:01.5Z") == Moment(at=1500)
    for text in ("", "yesterday", "-1", "²"):
        with pytest.raises(ValueError, match="neither a position nor a time"):
            parse_moment(text)
