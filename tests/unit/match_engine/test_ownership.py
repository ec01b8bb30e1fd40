"""Every worker decides for itself which partitions it serves; those who know the same decide the same."""

from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract.liveness import HEARTBEAT_INTERVAL, STALLED_AFTER, WORKER_DEAD_AFTER
from cloudmatch_bus.contract.subjects import PARTITIONS
from cloudmatch_match_engine.core.membership import Roll, owner

names = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=8, unique=True)


def roll(me: str, others: list[str], now: float = 0.0) -> Roll:
    made = Roll(me, now)
    for other in others:
        made.heard(other, now)
    return made


@given(names)
def test_each_partition_falls_to_exactly_one_of_those_who_know_each_other(workers: list[str]) -> None:
    owned = [roll(me, workers).owned(PARTITIONS) for me in workers]
    assert sorted(p for each in owned for p in each) == list(range(PARTITIONS))


@given(names, st.text(min_size=1, max_size=8))
def test_a_worker_that_comes_or_goes_moves_only_its_own_partitions(workers: list[str], other: str) -> None:
    for partition in range(PARTITIONS):
        before, after = owner(partition, workers), owner(partition, [*workers, other])
        assert after in (before, other)


def test_partitions_are_spread_evenly_enough() -> None:
    workers = [f"host-{i}" for i in range(4)]
    shares = [len(roll(me, workers).owned(PARTITIONS)) for me in workers]
    assert min(shares) >= PARTITIONS / 4 / 2


def test_a_silent_worker_is_counted_out_after_two_seconds_and_in_again_when_heard() -> None:
    mine = roll("me", ["other"])
    now = 0.0
    while now < WORKER_DEAD_AFTER:
        now += HEARTBEAT_INTERVAL
        mine.beat(now, connected=True)
        assert mine.workers == {"me", "other"}
    mine.beat(now + HEARTBEAT_INTERVAL, connected=True)
    assert mine.workers == {"me"}
    assert mine.owned(PARTITIONS) == set(range(PARTITIONS))
    mine.heard("other", now + HEARTBEAT_INTERVAL)
    assert mine.workers == {"me", "other"}


def test_a_worker_that_was_frozen_declares_nobody_dead_before_it_has_listened_again() -> None:
    mine = roll("me", ["other"])
    thaw = 60.0
    mine.beat(thaw, connected=True)
    assert mine.workers == {"me", "other"}
    for step in range(1, 5):
        mine.beat(thaw + step * HEARTBEAT_INTERVAL, connected=True)
    assert mine.workers == {"me", "other"}
    mine.beat(thaw + WORKER_DEAD_AFTER + HEARTBEAT_INTERVAL, connected=True)
    assert mine.workers == {"me"}


def test_a_worker_that_is_cut_off_declares_nobody_dead() -> None:
    mine = roll("me", ["other"])
    now = 0.0
    for _ in range(100):
        now += HEARTBEAT_INTERVAL
        mine.beat(now, connected=False)
    assert mine.workers == {"me", "other"}


def test_a_worker_that_says_it_leaves_is_out_at_once_and_nobody_is_ever_out_to_itself() -> None:
    mine = roll("me", ["other"])
    mine.gone("other")
    mine.gone("me")
    mine.gone("stranger")
    assert mine.workers == {"me"}
    mine.beat(10 * STALLED_AFTER, connected=True)
    assert mine.workers == {"me"}
