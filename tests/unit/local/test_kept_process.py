"""How long a process of `make up` waits before it is started again."""

from cloudmatch_local.kept_process import LONGEST_PAUSE, STEADY, Pauses


def test_the_pause_doubles_with_each_short_life_up_to_a_bound():
    pauses = Pauses()
    assert [pauses.after(0.1) for _ in range(4)] == [0.5, 1, 2, 4]
    assert [pauses.after(0.1) for _ in range(10)][-1] == LONGEST_PAUSE


def test_the_pause_is_short_again_after_a_long_life():
    pauses = Pauses()
    assert [pauses.after(life) for life in (1, 1, STEADY, 1)] == [0.5, 1, 0.5, 1]
