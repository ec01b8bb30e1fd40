"""The sizes of what was delivered lately are known to the receiving end, too, and forgotten in time."""

import random

from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_edge.relay.tail import QUIET_SWEEPS, TAIL_PAYLOADS, Tail


def filled(*batches: str | list[int]) -> Tail:
    """A tail of batches of two payloads each."""
    tail = Tail(0)
    for number, batch in enumerate(batches):
        tail.batches.append((2 * number, batch))
    return tail


def test_what_was_delivered_is_taken_once_even_part_of_a_batch() -> None:
    tail = filled("t4-b5", [6, 7])
    assert tail.take(1) == (0, [4])
    assert tail.take(3) == (1, [5, 6])
    assert tail.take(3) == (3, [])
    assert tail.take(4) == (3, [7])
    assert tail.take(4) == (4, [])


def test_what_was_delivered_within_a_sweep_before_the_last_delivery_is_kept() -> None:
    tail = filled("t1-t1", "t2-t2", "t3-t3", "t4-t4")
    assert not tail.sweep(2, keep=False)
    assert not tail.sweep(4, keep=False)
    assert [number for number, _ in tail.batches] == [0, 2, 4, 6], "the first may be as old as one sweep"
    for _ in range(QUIET_SWEEPS - 1):
        assert not tail.sweep(4, keep=False)
    assert not tail.sweep(6, keep=False)
    assert [number for number, _ in tail.batches] == [2, 4, 6]
    assert not tail.sweep(8, keep=False)
    assert tail.take(8) == (4, [3, 3, 4, 4])


def test_after_a_while_without_a_delivery_everything_delivered_is_forgotten() -> None:
    tail = filled("t1-t1", "t2-t2")
    for _ in range(QUIET_SWEEPS):
        assert not tail.sweep(3, keep=False)
    assert not tail.sweep(3, keep=False)
    assert tail.take(4) == (3, [2])
    assert tail.sweep(4, keep=False)


def test_while_facts_cannot_be_stored_only_too_much_is_forgotten() -> None:
    tail = Tail(0)
    for number in range(TAIL_PAYLOADS + 10):
        tail.batches.append((number, "t1"))
        if number % 100 == 0:
            assert not tail.sweep(number, keep=True)
    assert not tail.sweep(TAIL_PAYLOADS + 10, keep=True)
    assert tail.take(TAIL_PAYLOADS + 10) == (10, [1] * TAIL_PAYLOADS)


@given(seed=st.integers(0, 10**6))
def test_of_the_deliveries_of_the_last_seconds_nothing_is_missing(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  # a test
    tail = Tail(0)
    received = delivered = 0
    delivered_at: list[float] = []
    now = 0.0  # in intervals of sweeps
    for _ in range(chance.randrange(60)):
        for _ in range(chance.choice([0, 0, 1, 5])):
            sizes = [received + each for each in range(chance.randint(1, 3))]
            tail.batches.append((received, "-".join(f"t{size}" for size in sizes)))
            received += len(sizes)
            now += chance.random() / 10
            if chance.random() < 0.7:
                delivered = chance.randint(delivered, received)
                delivered_at += [now] * (delivered - len(delivered_at))
        now = float(int(now) + 1)
        tail.sweep(delivered, keep=False)
    first, sizes = tail.take(delivered)
    assert sizes == list(range(first, delivered))
    if delivered_at and now - delivered_at[-1] < QUIET_SWEEPS:
        assert all(at < delivered_at[-1] - 1 for at in delivered_at[:first])
