import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_analytics.windows import ALL, Row, Sums, Timeline, Window

SIZE = 10_000
T = 1_700_000_000_000  # a multiple of SIZE


def row(key, amount, messages=1, start=T):
    return Row(SIZE, start, key, amount, messages)


@pytest.fixture
def timeline():
    made = Timeline(SIZE)
    made.settle(T)
    return made


def test_a_window_shows_per_device_per_app_and_over_all_once_it_is_closed(timeline):
    timeline.put(row("demo.alice", 4))
    timeline.put(row("demo.bob", 6, 2))
    timeline.put(row("other.carol", 90))
    assert timeline.last(5) == []
    timeline.settle(T + SIZE)
    shown = {key: timeline.last(5, key) for key in ("demo.alice", "demo", ALL, "demo.nobody")}
    assert shown == {
        "demo.alice": [(T, T + SIZE, 4, 1)],
        "demo": [(T, T + SIZE, 10, 3)],
        ALL: [(T, T + SIZE, 100, 4)],
        "demo.nobody": [(T, T + SIZE, 0, 0)],
    }


def test_hearing_the_same_sums_twice_changes_nothing(timeline):
    for _ in range(2):
        timeline.put(row("demo.alice", 4))
    timeline.put(row("demo.alice", 7, 2))
    assert timeline.running(T) == (T, T + SIZE, 7, 2)


def test_what_came_too_late_is_added_to_the_closed_window(timeline):
    timeline.put(row("demo.alice", 4))
    timeline.settle(T + SIZE)
    changed = timeline.add(row("demo.alice", 5))
    assert changed == [row("demo.alice", 9, 2), row("demo", 9, 2), row(ALL, 9, 2)]
    assert timeline.last(1) == [(T, T + SIZE, 9, 2)]


def test_closing_gives_each_window_with_payloads_once(timeline):
    timeline.put(row("demo.alice", 4))
    timeline.put(row("demo.alice", 5, start=T + 2 * SIZE))
    assert timeline.settle(T + SIZE - 1) == []
    assert timeline.settle(T + SIZE) == [Window(T, T + SIZE, 4, 1)]
    assert timeline.settle(T + SIZE + 5) == []
    assert [w.bytes for w in timeline.settle(T + 9 * SIZE)] == [5]


def test_windows_without_payloads_are_zeros_from_the_first_known_on(timeline):
    timeline.put(row("demo.alice", 4, start=T + SIZE))
    timeline.settle(T + 4 * SIZE)
    assert [w.bytes for w in timeline.last(30)] == [0, 4, 0, 0]
    assert [w.start for w in timeline.last(2)] == [T + 2 * SIZE, T + 3 * SIZE]


def test_nothing_is_shown_before_time_is_known():
    assert Timeline(SIZE).last(30) == []


def test_no_more_windows_are_kept_than_asked_for():
    timeline = Timeline(SIZE, kept=5)
    for step in range(50):
        timeline.put(row("demo.alice", step, start=T + step * SIZE))
        timeline.settle(T + (step + 1) * SIZE)
    assert [w.bytes for w in timeline.last(100)] == [45, 46, 47, 48, 49]
    assert timeline.oldest()[0] == T + 45 * SIZE
    assert timeline.add(row("demo.alice", 1)) == []


def test_sums_per_device_go_first_and_the_sum_over_all_stays():
    timeline = Timeline(SIZE, details=25)
    timeline.settle(T)
    for step in range(5):
        for device in range(9):
            timeline.put(row(f"demo.d{device}", 1, start=T + step * SIZE))
        timeline.settle(T + (step + 1) * SIZE)
    assert [w.messages for w in timeline.last(9)] == [9] * 5
    assert [w.start for w in timeline.last(9, "demo.d1")] == [T + 3 * SIZE, T + 4 * SIZE]
    timeline.add(row("demo.d1", 1))
    assert timeline.last(9)[0].messages == 10


def test_what_was_saved_is_what_comes_back(timeline):
    saved = {}
    for device in ("demo.alice", "demo.bob"):
        saved |= {r[:3]: r for r in timeline.put(row(device, 4))}
    timeline.settle(T + SIZE)
    again = Timeline(SIZE)
    again.resume(timeline.closed_until, timeline.oldest()[1])
    for each in saved.values():
        again.restore(each)
    again.add(row("demo.bob", 1))
    timeline.add(row("demo.bob", 1))
    for key in (ALL, "demo", "demo.alice", "demo.bob"):
        assert again.last(9, key) == timeline.last(9, key)
    assert again.settle(T + SIZE) == []  # not announced twice


devices = st.sampled_from(["a.1", "a.2", "b.1", "b."])
payloads = st.lists(st.tuples(devices, st.integers(0, 5), st.integers(0, 1000)), max_size=60)


@given(payloads, st.randoms(use_true_random=False))
def test_sums_agree_in_every_order_with_every_repetition(sent, shuffle: random.Random):
    finals: dict[tuple[str, int], Sums] = {}
    for device, step, amount in sent:
        before = finals.get((device, step), Sums())
        finals[device, step] = Sums(before.bytes + amount, before.messages + 1)
    rows = [row(device, *sums, start=T + step * SIZE) for (device, step), sums in finals.items()]
    heard = rows + shuffle.sample(rows, len(rows) // 2)
    shuffle.shuffle(heard)
    timeline = Timeline(SIZE)
    timeline.settle(T)
    for each in heard:
        timeline.put(each)
    timeline.settle(T + 6 * SIZE)
    everything = timeline.last(6)
    assert sum(w.bytes for w in everything) == sum(amount for _, _, amount in sent)
    assert sum(w.messages for w in everything) == len(sent)
    apps = [timeline.last(6, app) for app in ("a", "b")]
    assert [w.bytes for w in everything] == [sum(w.bytes for w in both) for both in zip(*apps, strict=True)]
