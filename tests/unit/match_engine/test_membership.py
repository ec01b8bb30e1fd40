"""Every worker decides for itself which partitions it serves; equal memberships decide equally."""

from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract.liveness import HEARTBEAT_INTERVAL, STALLED_AFTER, WORKER_DEAD_AFTER
from cloudmatch_bus.contract.subjects import PARTITIONS
from cloudmatch_match_engine.core.membership import Membership, owner

names = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=8, unique=True)


def membership(me: str, others: list[str], now: float = 0.0) -> Membership:
    made = Membership(me, now)
    for other in others:
        made.on_heartbeat(other, now)
    return made


@given(names)
def test_each_partition_falls_to_exactly_one_of_the_workers_that_know_each_other(workers: list[str]) -> None:
    owned = [membership(me, workers).owned(PARTITIONS) for me in workers]
    assert sorted(p for each in owned for p in each) == list(range(PARTITIONS))


@given(names, st.text(min_size=1, max_size=8))
def test_a_worker_that_joins_or_leaves_moves_only_its_own_partitions(workers: list[str], other: str) -> None:
    for partition in range(PARTITIONS):
        before, after = owner(partition, workers), owner(partition, [*workers, other])
        assert after in (before, other)


def test_partitions_are_spread_evenly_enough() -> None:
    workers = [f"host-{i}" for i in range(4)]
    shares = [len(membership(me, workers).owned(PARTITIONS)) for me in workers]
    assert min(shares) >= PARTITIONS / 4 / 2


def test_a_silent_worker_is_removed_after_two_seconds_and_added_again_by_its_heartbeat() -> None:
    mine = membership("me", ["other"])
    now = 0.0
    while now < WORKER_DEAD_AFTER:
        now += HEARTBEAT_INTERVAL
        mine.check(now, connected=True)
        assert mine.workers == {"me", "other"}
    mine.check(now + HEARTBEAT_INTERVAL, connected=True)
    assert mine.workers == {"me"}
    assert mine.owned(PARTITIONS) == set(range(PARTITIONS))
    mine.on_heartbeat("other", now + HEARTBEAT_INTERVAL)
    assert mine.workers == {"me", "other"}


def test_a_worker_that_was_frozen_restarts_all_timers() -> None:
    mine = membership("me", ["other"])
    resumed_at = 60.0
    mine.check(resumed_at, connected=True)
    assert mine.workers == {"me", "other"}
    for step in range(1, 5):
        mine.check(resumed_at + step * HEARTBEAT_INTERVAL, connected=True)
    assert mine.workers == {"me", "other"}
    mine.check(resumed_at + WORKER_DEAD_AFTER + HEARTBEAT_INTERVAL, connected=True)
    assert mine.workers == {"me"}


def test_a_worker_that_is_cut_off_removes_no_other_worker() -> None:
    mine = membership("me", ["other"])
    now = 0.0
    for _ in range(100):
        now += HEARTBEAT_INTERVAL
        mine.check(now, connected=False)
    assert mine.workers == {"me", "other"}


def test_a_leaving_worker_is_removed_at_once_but_no_worker_removes_itself() -> None:
    mine = membership("me", ["other"])
    mine.on_leave("other")
    mine.on_leave("me")
    mine.on_leave("unknown")
    assert mine.workers == {"me"}
    mine.check(10 * STALLED_AFTER, connected=True)
    assert mine.workers == {"me"}
