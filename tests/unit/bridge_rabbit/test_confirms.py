"""Delivery tags that are confirmed in any order."""

from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bridge_rabbit.core.confirms import Confirms


def test_nothing_is_confirmed_before_all_messages_up_to_it_are() -> None:
    confirms = Confirms()
    assert (confirms.send(3), confirms.send(2)) == (3, 5)
    confirms.confirm(3, multiple=False)
    assert (confirms.upto, confirms.count) == (0, 1)
    confirms.confirm(1, multiple=False)
    assert (confirms.upto, confirms.count) == (1, 2)
    confirms.confirm(2, multiple=True)
    assert (confirms.upto, confirms.count) == (3, 3)
    confirms.confirm(5, multiple=True)
    assert (confirms.upto, confirms.count) == (5, 5)


def test_a_confirm_that_comes_twice_changes_nothing() -> None:
    confirms = Confirms()
    confirms.send(2)
    for multiple in (True, True, False):
        confirms.confirm(1, multiple=multiple)
    assert (confirms.upto, confirms.count) == (1, 1)


@given(st.lists(st.tuples(st.integers(1, 30), st.booleans())))
def test_tags_are_counted_like_a_set_of_them(confirmed: list[tuple[int, bool]]) -> None:
    confirms, tags = Confirms(), set[int]()
    confirms.send(30)
    for tag, multiple in confirmed:
        confirms.confirm(tag, multiple=multiple)
        tags |= set(range(1, tag + 1)) if multiple else {tag}
        assert confirms.count == len(tags)
        assert confirms.upto == next(tag for tag in range(31) if tag + 1 not in tags)
