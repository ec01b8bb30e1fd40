"""Facts that wait are noticed, explained and logged once."""

from cloudmatch_bus.client.backlog import PATIENCE, Backlog


def test_facts_that_are_stored_soon_are_no_problem() -> None:
    backlog = Backlog()
    assert (backlog.age(5.0), backlog.problem(0, 5.0), backlog.news(0, 5.0)) == (0.0, None, None)
    backlog.wait(10.0)
    assert backlog.age(10.0 + PATIENCE) == PATIENCE
    assert backlog.problem(1, 10.0 + PATIENCE) is None
    backlog.store(1, 14.0)
    assert backlog.age(15.0) == 1.0
    backlog.store(0, 15.0)
    assert backlog.age(1000.0) == 0.0


def test_facts_that_wait_are_logged_once_with_the_reason_and_so_is_their_end() -> None:
    backlog = Backlog()
    backlog.wait(0.0)
    backlog.wait(3.0)
    assert backlog.problem(2, 6.0) == "2 facts wait to be stored in EVENTS: no answer from JetStream"
    backlog.refuse("maximum bytes exceeded")
    assert backlog.news(2, 6.0) == "2 facts wait to be stored in EVENTS: maximum bytes exceeded"
    assert backlog.news(3, 7.0) is None
    backlog.store(2, 8.0)
    assert backlog.news(2, 8.0) == "facts are stored again"
    assert backlog.news(2, 9.0) is None
