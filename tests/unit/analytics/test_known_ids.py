"""Redelivered ids are known, whatever the clocks say."""

import json
from typing import Any

import pytest

from cloudmatch_analytics.core import known_ids
from cloudmatch_analytics.core.known_ids import list_of, new

GENERATIONS, MAX_IDS, MAX_LISTS = 20, 50, 10

T = 1_700_000_000_000
DAY = 86_400_000
ONE = {"demo.alice": (4, 1)}


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the limits small."""
    for name in ("GENERATIONS", "MAX_IDS", "MAX_LISTS"):
        monkeypatch.setattr(known_ids, name, globals()[name])


class Kept:
    """A state as Quix keeps it: values go through JSON."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def get(self, key: str, /) -> Any:
        return json.loads(self.values.get(key, "null"))

    def set(self, key: str, value: Any, /) -> None:
        self.values[key] = json.dumps(value)

    def delete(self, key: str, /) -> None:
        self.values.pop(key, None)


def is_new(identity: str | None, state: Kept) -> bool:
    found, repeated = new([(identity, ONE)], state)
    assert (len(found), repeated) in ((1, 0), (0, 1))
    return bool(found)


@pytest.mark.parametrize("said", [T, T + 2 * DAY, T - 2 * DAY, 0, 10**30, "9" * 5000, "None", "¹²", ""])
def test_an_id_is_new_once_whatever_time_is_said_in_it(said: object) -> None:
    state = Kept()
    for identity in (f"12.3/{said}", f"12.4/{said}", f"12.4/{said}#1", f"edge-0.5.12.4/{said}"):
        assert is_new(identity, state)
        assert not is_new(identity, state)


def test_what_has_no_id_is_always_new() -> None:
    state = Kept()
    assert is_new(None, state)
    assert is_new(None, state)
    assert state.values == {}


def test_an_id_that_a_record_has_twice_counts_once() -> None:
    found, repeated = new([("a/5", ONE), ("b/5", {"x.": (9, 3)}), ("b/5", {"x.": (9, 3)})], Kept())
    assert (found, repeated) == ([ONE, {"x.": (9, 3)}], 3)


def test_parts_of_a_batch_are_in_the_list_of_its_second() -> None:
    assert list_of(f"12/{T}") == list_of(f"12/{T + 999}#3") == str(T // 1000)
    assert list_of("12/None") != list_of("13/None")
    assert list_of("12/None").startswith("#")


def test_what_a_former_version_has_counted_is_known() -> None:
    state = Kept()
    state.set(str(T // 1000), [f"12.3/{T}"])
    assert not is_new(f"12.3/{T}", state)
    assert is_new(f"12.4/{T}", state)
    assert not is_new(f"12.3/{T}", state)


def test_the_last_ids_are_known_and_the_oldest_are_forgotten_first() -> None:
    state = Kept()

    def add(generation: int) -> None:
        at = T + 1000 * generation
        assert len(new([(f"{number}/{at}", ONE) for number in range(MAX_IDS)], state)[0]) == MAX_IDS

    for generation in range(GENERATIONS):
        add(generation)
    assert not is_new(f"0/{T}", state)
    full = len(state.values)
    add(GENERATIONS)
    assert not is_new(f"{MAX_IDS - 1}/{T + 1000}", state)
    assert len(state.values) <= full
    assert is_new(f"0/{T}", state)


def test_ids_of_many_seconds_are_forgotten_in_their_order_too() -> None:
    state = Kept()
    for second in range((GENERATIONS + 1) * MAX_LISTS):
        new([(f"1/{T + 1000 * second}", ONE)], state)
    assert not is_new(f"1/{T + 1000 * MAX_LISTS}", state)
    assert is_new(f"1/{T + 1000 * (MAX_LISTS - 1)}", state)
    assert len(state.values) <= GENERATIONS * (MAX_LISTS + 1) + 3


def test_a_list_that_is_extended_later_is_kept_as_long_as_the_later_ids() -> None:
    state = Kept()
    assert is_new(f"old/{T}", state)
    for generation in range(GENERATIONS - 1):
        new([(f"{number}/{T + 1000 + 1000 * generation}", ONE) for number in range(MAX_IDS)], state)
    assert is_new(f"late/{T}", state)  # of an edge whose clock is behind
    for generation in range(5):
        new([(f"{number}/{T + DAY + 1000 * generation}", ONE) for number in range(MAX_IDS)], state)
    assert not is_new(f"late/{T}", state)
    assert not is_new(f"old/{T}", state)


def test_a_list_that_is_extended_while_its_generation_is_forgotten_stays() -> None:
    state = Kept()
    assert is_new(f"old/{T}", state)
    for generation in range(GENERATIONS):
        new([(f"{number}/{T + 1000 + 1000 * generation}", ONE) for number in range(MAX_IDS)], state)
    assert is_new(f"new/{T}", state)
    assert not is_new(f"new/{T}", state)


@pytest.mark.parametrize(
    "value", [5, "x", [5], [[1], None], {"ids": 5}, {"ids": [None]}, {"generation": "x"}]
)
def test_a_state_that_was_not_written_like_that_holds_nothing_up(value: object) -> None:
    state = Kept()
    assert is_new(f"1.0/{T}", state)
    for key in list(state.values):
        state.set(key, value)
        for number in range(2 * MAX_IDS):
            is_new(f"{key}.{number}/{T + number}", state)
        assert is_new(f"{key}/{T}", state)
        assert not is_new(f"{key}/{T}", state)


def test_damaged_generations_are_forgotten_without_an_error() -> None:
    state = Kept()
    for number in range(MAX_LISTS):
        assert is_new(f"1.0/{T + 1000 * number}", state)
    for key in [key for key in state.values if key.startswith("ids")]:
        state.set(key, "x")
    for number in range(1, MAX_LISTS * (GENERATIONS + 1)):
        assert is_new(f"2.0/{T + 1000 * (number + MAX_LISTS)}", state)
