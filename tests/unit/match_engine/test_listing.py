"""A list of devices goes page by page, and no change of others moves anybody in it."""

import base64
import random

import msgspec
import pytest
from msgspec.structs import replace

from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_match_engine.core.keys import device_id
from cloudmatch_match_engine.core.listing import LARGEST, Page, Wanted, page, position
from cloudmatch_match_engine.core.roster import Roster

ID = 64  # characters, at most


def device(name: str, app: str = "demo", **more: object) -> DeviceRecord:
    return replace(DeviceRecord(app=app, device=name, edge="e", connection_id=1, lat=1, lon=2), **more)


def roster_of(*records: DeviceRecord) -> Roster:
    roster = Roster()
    for revision, record in enumerate(records, 1):
        roster.put(device_id(record.app, record.device), record, revision)
    return roster


def names(of: Page) -> list[str]:
    return [each.device for each in of.devices]


HERE = roster_of(
    device("waits"),
    device("red", tag="red"),
    device("left", match=7, peer="right"),
    device("right", match=7, peer="left", disconnected_at=5),
    device("gone", tag="red", disconnected_at=5),
    device("waits", app="other"),
)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, ["gone", "left", "red", "right", "waits"]),
        ({"state": "waiting"}, ["red", "waits"]),
        ({"state": "matched"}, ["left", "right"]),
        ({"state": "away"}, ["gone"]),
        ({"connected": True}, ["left", "red", "waits"]),
        ({"connected": False}, ["gone", "right"]),
        ({"connected": False, "state": "matched"}, ["right"]),
        ({"tag": "red"}, ["gone", "red"]),
        ({"tag": None}, ["left", "right", "waits"]),
        ({"tag": "blue"}, []),
    ],
)
def test_a_list_has_the_devices_of_one_app_that_are_wanted(
    more: dict[str, object], expected: list[str]
) -> None:
    found = page(HERE.everyone(), replace(Wanted(app="demo"), **more), "", LARGEST)
    assert names(found) == expected
    assert found.next is None


def test_a_list_says_no_place_and_no_token() -> None:
    said = msgspec.to_builtins(page(HERE.everyone(), Wanted(app="demo", state="matched"), "", 1))
    assert said["devices"] == [
        {
            "device": "left",
            "state": "matched",
            "connected": True,
            "edge": "e",
            "tag": None,
            "match": 7,
            "peer": "right",
        }
    ]


@pytest.mark.parametrize("seed", range(20))
def test_whoever_stays_is_listed_once_whoever_comes_leaves_and_changes_meanwhile(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311  # no secret
    alphabet = "aZ0-_=./ é😀"
    ids = {"".join(rng.choices(alphabet, k=rng.randint(1, 4))) for _ in range(60)}
    staying = set(rng.sample(sorted(ids), len(ids) // 2))
    roster = roster_of(*map(device, ids))
    seen: list[str] = []
    cursor: str | None = ""
    revision = 100
    while cursor is not None:
        found = page(roster.everyone(), Wanted(app="demo"), position(cursor), rng.randint(1, 7))
        seen += names(found)
        cursor = found.next
        for name in rng.sample(sorted(ids), 10):
            revision += 1
            there = name in staying or rng.random() < 0.5
            record = device(name, match=rng.choice([None, 7]), edge=rng.choice("ef")) if there else None
            roster.put(device_id("demo", name), record, revision)
    assert len(seen) == len(set(seen))
    assert staying <= set(seen)


@pytest.mark.parametrize("count", [LARGEST - 1, LARGEST, LARGEST + 1])
def test_only_a_page_that_is_not_the_last_has_a_cursor(count: int) -> None:
    roster = roster_of(*(device(f"d{number:04}") for number in range(count)))
    found = page(roster.everyone(), Wanted(app="demo"), "", LARGEST)
    assert len(found.devices) == min(count, LARGEST)
    assert (found.next is not None) == (count > LARGEST)


def test_the_largest_page_fits_into_one_message() -> None:
    said = {"tag": "\x01" * ID, "peer": "\x01" * ID, "match": 2**53 - 1, "edge": "e" * 255}
    crowd = roster_of(*(device(f"{number:03}" + "\x01" * (ID - 3), **said) for number in range(LARGEST)))
    assert len(msgspec.json.encode(page(crowd.everyone(), Wanted(app="demo"), "", LARGEST))) < 1_000_000


@pytest.mark.parametrize(
    "cursor", ["?", "YQ", "YQ=", "YR==", "YQ==\n", "é", base64.urlsafe_b64encode(b"\xff").decode()]
)
def test_a_cursor_is_taken_as_it_was_given_or_not_at_all(cursor: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # of several kinds
        position(cursor)
    assert position("YQ==") == "a"
    assert not position("")
