import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_analytics.core.windows import ALL, BASE, Row, Shape, Sums, Timeline, Window

T = 1_700_000_040_000  # begins a minute
TEN, MINUTE, SLIDING = Shape(BASE, BASE), Shape(60_000, 60_000), Shape(60_000, BASE)


def row(key, amount, messages=1, start=T):
    return Row(start, key, amount, messages)


@pytest.fixture
def timeline():
    made = Timeline()
    made.settle(T)
    return made


def test_a_window_shows_per_device_per_app_and_over_all_once_it_is_closed(timeline):
    timeline.put(row("demo.alice", 4))
    timeline.put(row("demo.bob", 6, 2))
    timeline.put(row("other.carol", 90))
    assert timeline.last(TEN, 5) == []
    timeline.settle(T + BASE)
    shown = {key: timeline.last(TEN, 5, key) for key in ("demo.alice", "demo", ALL, "demo.nobody")}
    assert shown == {
        "demo.alice": [(T, T + BASE, 4, 1, 0)],
        "demo": [(T, T + BASE, 10, 3, 0)],
        ALL: [(T, T + BASE, 100, 4, 0)],
        "demo.nobody": [(T, T + BASE, 0, 0, 0)],
    }


def test_of_sums_that_come_again_or_out_of_order_the_largest_stays(timeline):
    for amount, messages in ((4, 1), (7, 2), (4, 1), (7, 2)):
        timeline.put(row("demo.alice", amount, messages))
    assert timeline.running(TEN, T) == (T, T + BASE, 7, 2, 0)
    assert timeline.put(row("demo.alice", 7, 2)) == []
    timeline.put(row("demo.alice", 7, 3))  # a payload without a byte
    assert timeline.running(TEN, T, "demo").messages == 3


def test_a_long_window_is_the_sum_of_its_slices_and_a_hopping_one_begins_every_ten_seconds(timeline):
    for step in range(12):
        timeline.put(row("demo.alice", 10**step, start=T + step * BASE))
    timeline.settle(T + 9 * BASE)
    assert [w.bytes for w in timeline.last(MINUTE, 9)] == [111_111]
    assert [w.start for w in timeline.last(SLIDING, 9)] == [T, T + BASE, T + 2 * BASE, T + 3 * BASE]
    assert [w.bytes for w in timeline.last(SLIDING, 2)] == [11_111_100, 111_111_000]
    assert {w.end - w.start for w in timeline.last(SLIDING, 9)} == {60_000}
    timeline.settle(T + 12 * BASE)
    assert [w.bytes for w in timeline.last(MINUTE, 9)] == [111_111, 111_111_000_000]


def test_the_window_that_runs_is_the_one_that_closes_next(timeline):
    now = T + 25_000
    assert timeline.running(TEN, now)[:2] == (T + 20_000, T + 30_000)
    assert timeline.running(MINUTE, now)[:2] == (T, T + 60_000)
    assert timeline.running(SLIDING, now)[:2] == (T - 30_000, T + 30_000)


def test_what_comes_late_counts_is_counted_as_late_and_corrects_every_closed_window_that_holds_it(timeline):
    timeline.put(row("demo.alice", 4))
    timeline.settle(T + 3 * BASE)
    seen = timeline.corrections
    changed = timeline.put(row("demo.alice", 9, 3))
    assert changed == [Row(T, key, 9, 3, 2) for key in ("demo.alice", "demo", ALL)]
    assert timeline.corrected(TEN, seen) == [Window(T, T + BASE, 9, 3, 2)]
    assert timeline.corrected(TEN, seen, "demo.bob") == []
    assert timeline.corrected(TEN, timeline.corrections) == []
    assert [w.start for w in timeline.corrected(SLIDING, seen)] == [T - 50_000, T - 40_000, T - 30_000]
    assert timeline.corrected(MINUTE, seen) == []  # it runs
    timeline.put(row("demo.alice", 1, start=T + 3 * BASE))
    assert timeline.corrected(TEN, seen) == [Window(T, T + BASE, 9, 3, 2)]


def test_windows_without_payloads_are_zeros_from_the_first_known_on(timeline):
    timeline.put(row("demo.alice", 4, start=T + BASE))
    timeline.settle(T + 4 * BASE)
    assert [w.bytes for w in timeline.last(TEN, 30)] == [0, 4, 0, 0]
    assert [w.start for w in timeline.last(TEN, 2)] == [T + 2 * BASE, T + 3 * BASE]


def test_nothing_is_shown_before_time_is_known():
    assert Timeline().last(TEN, 30) == []


def test_no_more_is_kept_than_asked_for():
    timeline = Timeline(kept=2 * 60_000)
    for step in range(50):
        timeline.put(row("demo.alice", step, start=T + step * BASE))
        timeline.settle(T + (step + 1) * BASE)
    assert timeline.bounds()[0] == T + 36 * BASE  # whole minutes: three
    assert [w.bytes for w in timeline.last(TEN, 100)] == list(range(36, 50))
    assert [w.bytes for w in timeline.last(MINUTE, 100)] == [sum(range(36, 42)), sum(range(42, 48))]
    assert timeline.put(row("demo.alice", 1)) == []


def test_sums_per_device_go_first_and_the_sum_over_all_stays():
    timeline = Timeline(details=25)
    timeline.settle(T)
    for step in range(5):
        for device in range(9):
            timeline.put(row(f"demo.d{device}", 1, start=T + step * BASE))
        timeline.settle(T + (step + 1) * BASE)
    assert [w.messages for w in timeline.last(TEN, 9)] == [9] * 5
    assert [w.start for w in timeline.last(TEN, 9, "demo.d1")] == [T + 3 * BASE, T + 4 * BASE]


def test_senders_are_told_with_what_they_sent_lately(timeline):
    timeline.put(row("demo.alice", 4))
    timeline.put(row("demo.alice", 5, start=T + BASE))
    timeline.put(row("default.", 6, start=T + BASE))
    assert timeline.senders(T) == {"demo.alice": (9, 2, 0), "default.": (6, 1, 0)}
    assert timeline.senders(T + BASE) == {"demo.alice": (5, 1, 0), "default.": (6, 1, 0)}


def test_what_was_saved_is_what_comes_back(timeline):
    saved = {}
    for device in ("demo.alice", "demo.bob"):
        saved |= {r[:2]: r for r in timeline.put(row(device, 4))}
    timeline.settle(T + BASE)
    saved |= {r[:2]: r for r in timeline.put(row("demo.bob", 5, 2))}
    again = Timeline()
    again.resume(timeline.closed_until, *timeline.bounds())
    for each in saved.values():
        again.restore(each)
    for either in (again, timeline):
        either.put(row("demo.bob", 6, 3))
    for key in (ALL, "demo", "demo.alice", "demo.bob"):
        assert again.last(TEN, 9, key) == timeline.last(TEN, 9, key)
    assert not again.settle(T + BASE)  # not announced twice


devices = st.sampled_from(["a.1", "a.2", "b.1", "b."])
payloads = st.lists(st.tuples(devices, st.integers(0, 11), st.integers(0, 1000)), max_size=60)


@given(payloads, st.integers(0, 12), st.randoms(use_true_random=False))
def test_sums_agree_in_every_order_with_every_repetition_closed_or_not(sent, closed, shuffle: random.Random):
    said = []  # after each payload, all that its sender has exchanged in its slice
    so_far: dict[tuple[str, int], Sums] = {}
    for device, step, amount in sent:
        so_far[device, step] = sums = so_far.get((device, step), Sums()).plus(Sums(amount, 1))
        said.append(row(device, *sums[:2], start=T + step * BASE))
    heard = said + shuffle.sample(said, len(said) // 2)
    shuffle.shuffle(heard)
    timeline = Timeline()
    timeline.settle(T)
    half = len(heard) // 2
    for each in heard[:half]:
        timeline.put(each)
    timeline.settle(T + closed * BASE)
    for each in heard[half:]:
        timeline.put(each)
    timeline.settle(T + 12 * BASE)
    for shape, count in ((TEN, 12), (MINUTE, 2)):
        everything = timeline.last(shape, count)
        assert len(everything) == count
        assert sum(w.bytes for w in everything) == sum(amount for _, _, amount in sent)
        assert sum(w.messages for w in everything) == len(sent)
        apps = [timeline.last(shape, count, app) for app in ("a", "b")]
        assert [w.bytes for w in everything] == [
            sum(w.bytes for w in both) for both in zip(*apps, strict=True)
        ]
