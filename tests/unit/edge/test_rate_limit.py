"""Limits on what costs others something."""

import pytest

from cloudmatch_edge.relay.rate_limit import Buckets, Limits, TokenBucket

RATE, BURST = 5.0, 20.0


def test_a_burst_is_allowed_and_then_only_the_rate() -> None:
    bucket = TokenBucket(RATE, BURST)
    assert [bucket.acquire(0) for _ in range(int(BURST) + 1)] == [True] * int(BURST) + [False]
    assert not bucket.acquire(0.9 / RATE)
    assert bucket.acquire(1 / RATE)
    assert not bucket.acquire(1 / RATE)


def test_tokens_do_not_accumulate_beyond_a_burst() -> None:
    bucket = TokenBucket(RATE, BURST)
    assert sum(bucket.acquire(1e6) for _ in range(2 * int(BURST))) == BURST


def test_several_tokens_are_used_together_or_not_at_all() -> None:
    bucket = TokenBucket(RATE, BURST)
    assert bucket.acquire(0, BURST)
    assert not bucket.acquire(1.0, RATE + 1)
    assert bucket.acquire(1.0, RATE)


def test_nothing_is_limited_unless_asked_for() -> None:
    assert not any(Limits())


def taken(buckets: Buckets, key: object, now: float) -> int:
    """Take what there is; return how many tokens that were."""
    count = 0
    while not buckets.wait(key, now):
        buckets.take(key, now)
        count += 1
    return count


@pytest.mark.parametrize("rate", [0.1, 1.0, 3.0, 7.0, 20.0])
def test_each_key_has_a_burst_and_then_the_rate(rate: float) -> None:
    buckets = Buckets(rate, 10)
    assert taken(buckets, "a", 1e6) == 10
    assert buckets.wait("a", 1e6) == pytest.approx(1 / rate)
    assert taken(buckets, "b", 1e6) == 10, "nobody pays for another"
    later = 1e6 + buckets.wait("a", 1e6)
    assert taken(buckets, "a", later) == 1
    assert taken(buckets, "a", later + 1e6) == 10


def test_a_bucket_holds_one_token_at_least() -> None:
    buckets = Buckets(0.5, 0.1)
    assert taken(buckets, "a", 0.0) == 1
    assert buckets.wait("a", 0.0) == 2.0


def test_without_a_rate_nothing_is_limited_or_kept() -> None:
    buckets = Buckets(0.0, 0.0)
    for _ in range(1000):
        assert not buckets.wait("a", 0.0)
        buckets.take("a", 0.0)
    assert len(buckets) == 0


def test_a_whole_bucket_is_owed_at_most() -> None:
    buckets = Buckets(1.0, 10.0)
    for _ in range(1000):
        buckets.take("a", 0.0, 3.0)
    assert buckets.wait("a", 0.0) == 11.0


def test_full_buckets_are_forgotten() -> None:
    buckets = Buckets(1.0, 10.0)
    for key in range(1000):
        buckets.take(key, 0.0)
    assert len(buckets) == 1000
    for key in range(1000):
        buckets.take(f"later {key}", 2.0)
    assert len(buckets) == 1000


def test_a_flood_of_keys_does_not_grow_the_table_and_the_latest_are_known() -> None:
    buckets = Buckets(1.0, 10.0, most=100)
    for key in range(10_000):
        buckets.take(key, 0.0)
        assert len(buckets) <= 100
    assert taken(buckets, 9_999, 0.0) == 9
    assert taken(buckets, 0, 0.0) == 10
