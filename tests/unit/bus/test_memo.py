"""A memo table computes each value once, and keeps no more than its limit."""

from cloudmatch_bus.contract.memo import Memo


def test_a_value_is_computed_once() -> None:
    computed: list[int] = []

    def square(n: int) -> int:
        computed.append(n)
        return n * n

    memo = Memo(square, limit=10)
    assert [memo[3], memo[3], memo[4]] == [9, 9, 16]
    assert computed == [3, 4]


def test_beyond_the_limit_values_are_right_but_not_kept() -> None:
    memo = Memo(str, limit=2)
    assert [memo[n] for n in range(4)] == ["0", "1", "2", "3"]
    assert list(memo) == [0, 1]
