"""The mirror applies changes of the bucket in order, keeps match events, and wakes tasks that wait for it."""

import asyncio

import pytest
from msgspec.structs import replace

from cloudmatch_bus.client.bucket import Entry
from cloudmatch_bus.contract.messages import DeviceRecord, PairRecord, Tombstone, encode
from cloudmatch_match_engine.core.keys import device_id, pair_key
from cloudmatch_match_engine.core.replay import REPLAY_DELAY, RETENTION
from cloudmatch_match_engine.core.roster import Roster
from cloudmatch_match_engine.pairing.mirror import Mirror

RECORD = DeviceRecord(app="demo", device="a", edge="e", connection_id=1, lat=0, lon=0)
PAIR = PairRecord(app="demo", match=7, device="a", peer="b", at=0)
TOMBSTONE = Tombstone(app="demo", device="a", edge="e", connection_id=1, match=7, peer="b")
DEVICE = device_id("demo", "a")


class Time:
    """A clock that a test sets, in seconds."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def new_mirror(time: Time | None = None) -> Mirror:
    return Mirror(Roster(), time or Time())


def replayed(*entries: Entry) -> list[PairRecord | Tombstone]:
    time = Time()
    mirror = new_mirror(time)
    for entry in entries:
        mirror.on_entry(entry)
    mirror.schedule_replay()
    time.now += REPLAY_DELAY
    return list(mirror.due())


def test_a_device_is_stored_and_removed_as_the_bucket_shows() -> None:
    mirror = new_mirror()
    mirror.on_entry(Entry(DEVICE.key, encode(RECORD), 3))
    assert mirror.roster.get(DEVICE) == (RECORD, 3)
    gone = Entry(DEVICE.key, None, 4, encode(replace(TOMBSTONE, match=None, peer=None)))
    mirror.on_entry(gone)
    assert mirror.roster.get(DEVICE) is None
    assert mirror.roster.reached == 4
    assert not replayed(gone), "a device that leaves alone is no match event"


def test_a_made_and_an_ended_match_are_events_to_replay() -> None:
    made = Entry(pair_key("demo", 7), encode(PAIR), 5)
    ended = Entry(pair_key("demo", 7), None, 6, encode(TOMBSTONE))
    assert replayed(made, ended) == [PAIR, TOMBSTONE]
    assert replayed(made._replace(age=RETENTION + 1), ended) == [TOMBSTONE]


def test_an_event_whose_consequences_failed_is_due_again() -> None:
    time = Time()
    mirror = new_mirror(time)
    mirror.retry(TOMBSTONE)
    assert not list(mirror.due())
    time.now += REPLAY_DELAY
    assert list(mirror.due()) == [TOMBSTONE]


def test_a_match_is_recent_by_this_workers_clock_whatever_its_record_says() -> None:
    time = Time()
    mirror = new_mirror(time)
    mirror.on_entry(Entry(pair_key("demo", 7), encode(PAIR), 8))
    time.now += RETENTION
    assert mirror.is_recent(7)
    time.now += 0.1
    assert not mirror.is_recent(7)


AWAY = replace(RECORD, grace=30.0, disconnected_at=5)  # ms, of a clock that is 50 years behind


def test_a_grace_is_measured_from_when_the_mirror_first_shows_the_absence() -> None:
    time = Time()
    mirror = new_mirror(time)
    mirror.on_entry(Entry(DEVICE.key, encode(RECORD), 3))
    assert mirror.absent_for(RECORD) == 0.0
    time.now += 100.0
    mirror.on_entry(Entry(DEVICE.key, encode(AWAY), 4))
    assert mirror.absent_for(AWAY) == 0.0
    time.now += 7.0
    rewritten = replace(AWAY, match=None, last_peer="b")
    mirror.on_entry(Entry(DEVICE.key, encode(rewritten), 5))
    mirror.roster.restart()
    mirror.on_entry(Entry(DEVICE.key, encode(rewritten), 5))
    assert mirror.absent_for(rewritten) == 7.0, "the same absence"


def test_a_connection_is_known_for_as_long_as_the_mirror_shows_it() -> None:
    time = Time()
    mirror = new_mirror(time)
    assert mirror.known_for(RECORD) == 0.0
    mirror.on_entry(Entry(DEVICE.key, encode(RECORD), 3))
    time.now += 5.0
    mirror.on_entry(Entry(DEVICE.key, encode(AWAY), 4))
    assert mirror.known_for(AWAY) == 5.0
    assert mirror.known_for(replace(AWAY, connection_id=2)) == 0.0, "it is not shown yet"


@pytest.mark.parametrize(
    "again", [replace(AWAY, disconnected_at=6), replace(AWAY, connection_id=2), replace(AWAY, edge="f")]
)
def test_another_absence_has_a_grace_of_its_own(again: DeviceRecord) -> None:
    time = Time()
    mirror = new_mirror(time)
    mirror.on_entry(Entry(DEVICE.key, encode(AWAY), 4))
    time.now += 7.0
    mirror.on_entry(Entry(DEVICE.key, encode(again), 9))
    assert mirror.absent_for(again) == 0.0


def test_a_deleted_match_without_a_tombstone_only_advances_the_mirror() -> None:
    mirror = new_mirror()
    deleted = Entry(pair_key("demo", 7), None, 6)
    mirror.on_entry(deleted)
    assert mirror.roster.reached == 6
    assert not replayed(deleted)


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
