"""What of the payloads given to a device is in its hands."""

from cloudmatch_edge.relay.hands import PRESUME, Hands
from cloudmatch_edge.relay.window import WINDOW_BYTES, WINDOW_FRAMES


def test_what_the_device_says_counts_once_and_never_beyond_what_it_was_given() -> None:
    hands = Hands(10)
    hands.give(5, 50, 0)
    assert hands.take(12, 0)
    assert not hands.take(12, 0)
    assert not hands.empty
    assert hands.take(99, 0)
    assert hands.taken == 15
    assert hands.empty


def test_a_device_that_never_says_what_it_has_is_presumed_to_have_it_once_half_a_window_waits() -> None:
    few, many, large = Hands(0), Hands(0), Hands(0)
    few.give(WINDOW_FRAMES // 2 - 1, 1, 0)
    many.give(WINDOW_FRAMES // 2, 1, 0)
    large.give(1, WINDOW_BYTES // 2, 0)
    assert not any(hands.presume(PRESUME / 2, audible=False) for hands in (few, many, large))
    assert [hands.presume(PRESUME, audible=False) for hands in (few, many, large)] == [False, True, True]
    assert (few.taken, many.taken, large.taken) == (0, WINDOW_FRAMES // 2, 1)


def test_a_device_that_is_heard_is_waited_for() -> None:
    hands = Hands(0)
    hands.give(WINDOW_FRAMES, WINDOW_BYTES, 0)
    assert not hands.presume(10 * PRESUME, audible=True)


def test_bytes_that_were_taken_weigh_no_more() -> None:
    hands = Hands(0)
    hands.give(1, WINDOW_BYTES // 2, 0)
    hands.give(1, 1, 0)
    assert hands.take(1, 0)
    assert not hands.presume(PRESUME, audible=False)


def test_what_can_never_come_is_not_waited_for() -> None:
    hands = Hands(0)
    hands.give(3, 30, 0)
    hands.skip(7)
    assert hands.empty
    assert hands.taken == 7
    hands.give(1, 1, 0)
    assert hands.take(8, 0)
