"""What the bucket holds is read; what cannot be, or belongs to another key, counts as absent."""

import pytest
from msgspec.structs import replace

from cloudmatch_bus.client.bucket import Entry
from cloudmatch_bus.contract.messages import DeviceRecord, PairRecord, Tombstone, encode
from cloudmatch_match_engine.core.keys import device_id, pair_key
from cloudmatch_match_engine.dropped import dropped
from cloudmatch_match_engine.pairing.entries import device_in, pair_in, tombstone_in

RECORD = DeviceRecord(app="demo", device="a", edge="e", connection_id=1, lat=0, lon=0)
PAIR = PairRecord(app="demo", match=7, device="a", peer="b", at=0)
TOMBSTONE = Tombstone(app="demo", device="a", edge="e", connection_id=1, match=7, peer="b")
KEY, PAIR_KEY = device_id("demo", "a").key, pair_key("demo", 7)


def count(reason: str) -> float:
    return float(dropped.labels(reason)._value.get())


def test_what_a_key_holds_is_read() -> None:
    assert device_in(Entry(KEY, encode(RECORD), 1)) == RECORD
    assert pair_in(Entry(PAIR_KEY, encode(PAIR), 1)) == PAIR
    assert tombstone_in(Entry(KEY, None, 1, encode(TOMBSTONE))) == TOMBSTONE
    assert tombstone_in(Entry(PAIR_KEY, None, 1, encode(TOMBSTONE))) == TOMBSTONE


async def test_what_is_absent_is_not_read() -> None:
    absent, before = Entry(KEY, None, 0), count("unreadable")
    assert (device_in(absent), pair_in(absent), tombstone_in(absent)) == (None, None, None)
    assert count("unreadable") == before


@pytest.mark.parametrize("data", [b"x", b"\xff", b"{}", b"[" * 100_000, b'{"app":"\xff"}'])
async def test_what_cannot_be_read_counts_as_absent(data: bytes) -> None:
    before = count("unreadable")
    assert device_in(Entry(KEY, data, 1)) is None
    assert pair_in(Entry(PAIR_KEY, data, 1)) is None
    assert tombstone_in(Entry(KEY, None, 1, data)) is None
    assert count("unreadable") == before + 3


async def test_what_another_key_should_hold_counts_as_absent() -> None:
    before = count("false_claim")
    assert device_in(Entry("dev.demo.a\ufffd", encode(RECORD), 1)) is None
    assert device_in(Entry(KEY, encode(replace(RECORD, app="other")), 1)) is None
    assert pair_in(Entry(PAIR_KEY, encode(replace(PAIR, match=8)), 1)) is None
    assert tombstone_in(Entry(PAIR_KEY, None, 1, encode(replace(TOMBSTONE, match=None)))) is None
    assert count("false_claim") == before + 4
