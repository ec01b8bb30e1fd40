"""The limit on commands that cost the pool something."""

from cloudmatch_edge.relay.rate_limit import BURST, RATE, TokenBucket


def test_a_burst_is_allowed_and_then_only_the_rate() -> None:
    bucket = TokenBucket()
    assert [bucket.acquire(0) for _ in range(int(BURST) + 1)] == [True] * int(BURST) + [False]
    assert not bucket.acquire(0.9 / RATE)
    assert bucket.acquire(1 / RATE)
    assert not bucket.acquire(1 / RATE)


def test_tokens_do_not_accumulate_beyond_a_burst() -> None:
    bucket = TokenBucket()
    assert sum(bucket.acquire(1e6) for _ in range(2 * int(BURST))) == BURST
