"""The mirror applies changes of the bucket in order, keeps match events, and wakes tasks that wait for it."""

import asyncio

import pytest
from msgspec.structs import replace

from cloudmatch_bus.client.bucket import Entry
from cloudmatch_bus.contract.messages import DeviceRecord, PairRecord, Tombstone, encode
from cloudmatch_match_engine.core.keys import device_id, pair_key
from cloudmatch_match_engine.core.replay import REPLAY_DELAY
from cloudmatch_match_engine.core.roster import Roster
from cloudmatch_match_engine.pairing.mirror import Mirror

RECORD = DeviceRecord(app="demo", device="a", edge="e", connection_id=1, lat=0, lon=0)
PAIR = PairRecord(app="demo", match=7, device="a", peer="b", at=0)
TOMBSTONE = Tombstone(app="demo", device="a", edge="e", connection_id=1, match=7, peer="b")
DEVICE = device_id("demo", "a")


def new_mirror() -> Mirror:
    return Mirror(Roster(), clock=lambda: 1000)


def replayed(mirror: Mirror) -> list[PairRecord | Tombstone]:
    mirror.replay_log.schedule(1000)
    return list(mirror.replay_log.due(1000 + REPLAY_DELAY))


def test_a_device_is_stored_and_removed_as_the_bucket_shows() -> None:
    mirror = new_mirror()
    mirror.on_entry(Entry(DEVICE.key, encode(RECORD), 3))
    assert mirror.roster.get(DEVICE) == (RECORD, 3)
    mirror.on_entry(Entry(DEVICE.key, None, 4, encode(replace(TOMBSTONE, match=None, peer=None))))
    assert mirror.roster.get(DEVICE) is None
    assert mirror.roster.reached == 4
    assert not replayed(mirror), "a device that leaves alone is no match event"


def test_a_made_and_an_ended_match_are_events_to_replay() -> None:
    mirror = new_mirror()
    mirror.on_entry(Entry(pair_key("demo", 7), encode(PAIR), 5))
    mirror.on_entry(Entry(pair_key("demo", 7), None, 6, encode(TOMBSTONE)))
    assert replayed(mirror) == [PAIR, TOMBSTONE]
    assert mirror.roster.reached == 6


def test_a_deleted_match_without_a_tombstone_only_advances_the_mirror() -> None:
    mirror = new_mirror()
    mirror.on_entry(Entry(pair_key("demo", 7), None, 6))
    assert not replayed(mirror)
    assert mirror.roster.reached == 6


async def test_a_revision_that_is_reached_needs_no_wait() -> None:
    mirror = new_mirror()
    mirror.on_entry(Entry(DEVICE.key, encode(RECORD), 3))
    await mirror.wait_for(3)


async def test_each_task_wakes_when_its_revision_is_reached() -> None:
    mirror = new_mirror()
    first, second = (asyncio.create_task(mirror.wait_for(revision)) for revision in (3, 5))
    await asyncio.sleep(0)
    mirror.on_entry(Entry(DEVICE.key, encode(RECORD), 4))
    await first
    assert not second.done()
    mirror.on_entry(Entry(DEVICE.key, encode(RECORD), 5))
    await second


async def test_a_wait_for_a_revision_that_never_comes_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloudmatch_match_engine.pairing.mirror.WAIT_TIMEOUT", 0.01)
    mirror = new_mirror()
    with pytest.raises(TimeoutError):
        await mirror.wait_for(3)
    mirror.on_entry(Entry(DEVICE.key, encode(RECORD), 3))
    assert not mirror._waiters
