"""How far singles lie behind."""

from cloudmatch_bridge_rabbit.core.lag import Lag


def test_nothing_lags_at_first_and_while_nothing_is_pending() -> None:
    lag = Lag()
    assert lag.age(100) == 0
    lag.observe(0, 100)
    assert (lag.pending, lag.age(200)) == (0, 0)


def test_what_is_pending_is_as_old_as_the_oldest_fact_in_hand() -> None:
    lag = Lag()
    lag.begin(90)
    assert lag.age(100) == 10
    lag.begin(95)  # after a failure, others come first
    assert lag.age(100) == 10
    lag.end(97)
    assert lag.age(100) == 0
    lag.observe(3, 101)
    assert (lag.pending, lag.age(101)) == (3, 4)
    assert lag.age(90) == 0  # a clock that goes back


def test_facts_that_never_came_are_as_old_as_the_last_time_when_there_were_none() -> None:
    lag = Lag()
    lag.observe(2, 100)
    lag.observe(3, 110)
    assert lag.age(110) == 10
    lag.observe(0, 120)
    lag.observe(1, 130)
    assert lag.age(130) == 10


def test_facts_in_hand_stay_as_old_as_they_are() -> None:
    lag = Lag()
    lag.begin(90)
    lag.observe(0, 100)
    assert lag.age(100) == 10
