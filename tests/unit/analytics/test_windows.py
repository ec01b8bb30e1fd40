"""Windows as sums of slices."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_analytics.core.windows import (
    ALL,
    BASE,
    MAX_DROPPED,
    MAX_SUM,
    Bounds,
    Row,
    Shape,
    Sums,
    Timeline,
    Window,
    app_series,
    sender_series,
)

T = 1_700_000_040_000  # begins a minute
TEN, MINUTE, SLIDING = Shape(BASE, BASE), Shape(60_000, 60_000), Shape(60_000, BASE)


def all_rows(timeline):
    return [row for start, series in timeline.all_series().items() for row in timeline.rows(start, series)]


def row(series, amount, messages=1, start=T):
    return Row(start, series, amount, messages)


@pytest.fixture
def timeline():
    made = Timeline()
    made.close(T)
    return made


def test_a_closed_window_has_sums_per_device_per_app_and_over_all(timeline):
    timeline.update(row("demo.alice", 4))
    timeline.update(row("demo.bob", 6, 2))
    timeline.update(row("other.carol", 90))
    assert timeline.last(TEN, 5) == []
    timeline.close(T + BASE)
    shown = {series: timeline.last(TEN, 5, series) for series in ("demo.alice", "demo", ALL, "demo.nobody")}
    assert shown == {
        "demo.alice": [(T, T + BASE, 4, 1, 0)],
        "demo": [(T, T + BASE, 10, 3, 0)],
        ALL: [(T, T + BASE, 100, 4, 0)],
        "demo.nobody": [(T, T + BASE, 0, 0, 0)],
    }


def test_the_largest_of_repeated_or_reordered_sums_is_kept(timeline):
    for amount, messages in ((4, 1), (7, 2), (4, 1), (7, 2)):
        timeline.update(row("demo.alice", amount, messages))
    assert timeline.running(TEN, T) == (T, T + BASE, 7, 2, 0)
    assert timeline.update(row("demo.alice", 7, 2)) == []
    timeline.update(row("demo.alice", 7, 3))  # a payload without a byte
    assert timeline.running(TEN, T, "demo").messages == 3


def test_what_is_added_counts_in_the_sums_of_senders_apps_and_over_all(timeline):
    timeline.update(row("demo.alice", 4))
    changed = timeline.add(T, {"demo.alice": (5, 2), "demo.bob": (1, 1), "other.carol": (90, 1)})
    assert sorted(timeline.rows(T, changed)) == [
        Row(T, ALL, 100, 5),
        Row(T, "demo", 10, 4),
        Row(T, "demo.alice", 9, 3),
        Row(T, "demo.bob", 1, 1),
        Row(T, "other", 90, 1),
        Row(T, "other.carol", 90, 1),
    ]
    assert timeline.running(TEN, T) == (T, T + BASE, 100, 5, 0)
    assert timeline.corrections == 0


def test_what_is_added_late_counts_as_late_and_corrects(timeline):
    timeline.update(row("demo.alice", 4))
    timeline.close(T + BASE)
    seen = timeline.corrections
    assert sorted(timeline.rows(T, timeline.add(T, {"demo.bob": (5, 2)}))) == [
        Row(T, ALL, 9, 3, 2),
        Row(T, "demo", 9, 3, 2),
        Row(T, "demo.bob", 5, 2, 2),
    ]
    for series in ("demo.bob", "demo", ALL):
        assert len(timeline.corrected(TEN, seen, series)) == 1


def test_what_is_added_to_a_slice_without_details_counts_over_all_only():
    timeline = Timeline(max_details=1)
    timeline.close(T)
    timeline.add(T, {"demo.alice": (4, 1)})
    timeline.close(T + BASE)
    assert timeline.rows(T, timeline.add(T, {"demo.bob": (5, 1), "other.carol": (1, 1)})) == [
        Row(T, ALL, 10, 3, 2)
    ]


def test_details_are_limited_however_they_came():
    timeline = Timeline(max_details=25)
    timeline.close(T)
    for step in range(5):
        for _ in range(2):
            timeline.add(T + step * BASE, {f"demo.d{device}": (1, 1) for device in range(9)})
        timeline.close(T + (step + 1) * BASE)
    assert [w.messages for w in timeline.last(TEN, 9)] == [18] * 5
    assert [w.start for w in timeline.last(TEN, 9, "demo.d1")] == [T + 3 * BASE, T + 4 * BASE]


def test_nothing_is_added_to_slices_older_than_the_retention():
    timeline = Timeline(retained=60_000)
    timeline.update(row("demo.bob", 1, start=T + 3 * 60_000))
    timeline.close(T + 3 * 60_000)
    assert timeline.add(T, {"demo.alice": (4, 1)}) == []
    assert timeline.running(TEN, T).messages == 0
    assert timeline.rows(T, ["demo.alice"]) == []
    assert [each.start for each in all_rows(timeline)] == [T + 3 * 60_000] * 3


def test_a_long_window_is_the_sum_of_its_slices_and_a_hopping_one_begins_every_ten_seconds(timeline):
    for step in range(12):
        timeline.update(row("demo.alice", 10**step, start=T + step * BASE))
    timeline.close(T + 9 * BASE)
    assert [w.bytes for w in timeline.last(MINUTE, 9)] == [111_111]
    assert [w.start for w in timeline.last(SLIDING, 9)] == [T, T + BASE, T + 2 * BASE, T + 3 * BASE]
    assert [w.bytes for w in timeline.last(SLIDING, 2)] == [11_111_100, 111_111_000]
    assert {w.end - w.start for w in timeline.last(SLIDING, 9)} == {60_000}
    timeline.close(T + 12 * BASE)
    assert [w.bytes for w in timeline.last(MINUTE, 9)] == [111_111, 111_111_000_000]


def test_the_running_window_is_the_one_that_closes_next(timeline):
    now = T + 25_000
    assert timeline.running(TEN, now)[:2] == (T + 20_000, T + 30_000)
    assert timeline.running(MINUTE, now)[:2] == (T, T + 60_000)
    assert timeline.running(SLIDING, now)[:2] == (T - 30_000, T + 30_000)


def test_a_late_payload_counts_as_late_and_corrects_every_closed_window_around_it(timeline):
    timeline.update(row("demo.alice", 4))
    timeline.close(T + 3 * BASE)
    seen = timeline.corrections
    changed = timeline.update(row("demo.alice", 9, 3))
    assert changed == [Row(T, series, 9, 3, 2) for series in ("demo.alice", "demo", ALL)]
    assert timeline.corrected(TEN, seen) == [Window(T, T + BASE, 9, 3, 2)]
    assert timeline.corrected(TEN, seen, "demo.bob") == []
    assert timeline.corrected(TEN, timeline.corrections) == []
    assert [w.start for w in timeline.corrected(SLIDING, seen)] == [T - 50_000, T - 40_000, T - 30_000]
    assert timeline.corrected(MINUTE, seen) == []  # it is running
    timeline.update(row("demo.alice", 1, start=T + 3 * BASE))
    assert timeline.corrected(TEN, seen) == [Window(T, T + BASE, 9, 3, 2)]


def test_windows_without_payloads_are_zero_from_the_first_known_one_on(timeline):
    timeline.update(row("demo.alice", 4, start=T + BASE))
    timeline.close(T + 4 * BASE)
    assert [w.bytes for w in timeline.last(TEN, 30)] == [0, 4, 0, 0]
    assert [w.start for w in timeline.last(TEN, 2)] == [T + 2 * BASE, T + 3 * BASE]


def test_there_are_no_windows_before_event_time_is_known():
    assert Timeline().last(TEN, 30) == []


def test_slices_older_than_the_retention_are_dropped():
    timeline = Timeline(retained=2 * 60_000)
    for step in range(50):
        timeline.update(row("demo.alice", step, start=T + step * BASE))
        timeline.close(T + (step + 1) * BASE)
    assert timeline.bounds.first == T + 36 * BASE  # whole minutes: three
    assert [w.bytes for w in timeline.last(TEN, 100)] == list(range(36, 50))
    assert [w.bytes for w in timeline.last(MINUTE, 100)] == [sum(range(36, 42)), sum(range(42, 48))]
    assert timeline.update(row("demo.alice", 1)) == []


def test_a_clock_that_jumps_ahead_makes_nothing_too_old():
    timeline = Timeline()
    timeline.update(row("demo.alice", 4))
    timeline.close(T + 2 * 86_400_000)
    timeline.update(row("demo.alice", 9, 2, start=T + BASE))
    timeline.close(T + 2 * 86_400_000 + BASE)
    assert timeline.bounds.first == T
    assert [timeline.window(TEN, T + step * BASE).bytes for step in range(2)] == [4, 9]


def test_payloads_that_jump_ahead_as_well_drop_a_few_old_slices_at_a_time():
    timeline = Timeline()
    for step in range(20):
        timeline.update(row("demo.alice", 1, start=T + step * BASE))
    timeline.update(row("demo.alice", 1, start=T + 2 * 86_400_000))
    timeline.close(T + 2 * 86_400_000 + BASE)
    assert timeline.bounds.first == T + MAX_DROPPED * BASE
    assert timeline.window(Shape(200_000, BASE), T).messages == 20 - MAX_DROPPED
    timeline.reopen(T + 20 * BASE)
    assert timeline.update(row("demo.alice", 5, 5, start=T))  # not too old any more
    assert timeline.bounds.first == T


def test_slices_that_have_not_ended_are_reopened():
    timeline = Timeline()
    timeline.update(row("demo.alice", 4))
    timeline.close(T + 60 * BASE)
    assert not timeline.reopen(T + 59 * BASE)  # a clock may be set back a little
    assert timeline.reopen(T + BASE + 5)
    assert [w.bytes for w in timeline.last(TEN, 99)] == [4]
    timeline.update(row("demo.alice", 7, start=T + BASE))
    assert timeline.running(TEN, T + BASE).late == 0
    assert timeline.close(T + 2 * BASE)
    assert [w.bytes for w in timeline.last(TEN, 99)] == [4, 7]


def test_reopening_before_the_first_slice_makes_that_the_first_one():
    timeline = Timeline()
    timeline.close(T + 60 * BASE)
    assert timeline.reopen(T + 5)
    timeline.close(T + BASE)
    assert timeline.bounds == Bounds(T + BASE, T, 0)


def test_the_oldest_sums_per_device_are_dropped_first_and_the_sum_over_all_stays():
    timeline = Timeline(max_details=25)
    timeline.close(T)
    for step in range(5):
        for device in range(9):
            timeline.update(row(f"demo.d{device}", 1, start=T + step * BASE))
        timeline.close(T + (step + 1) * BASE)
    assert [w.messages for w in timeline.last(TEN, 9)] == [9] * 5
    assert [w.start for w in timeline.last(TEN, 9, "demo.d1")] == [T + 3 * BASE, T + 4 * BASE]


def test_the_senders_since_a_time_have_their_sums_since_then(timeline):
    timeline.update(row("demo.alice", 4))
    timeline.update(row("demo.alice", 5, start=T + BASE))
    timeline.update(row("default.", 6, start=T + BASE))
    assert timeline.senders(T) == {"demo.alice": (9, 2, 0), "default.": (6, 1, 0)}
    assert timeline.senders(T + BASE) == {"demo.alice": (5, 1, 0), "default.": (6, 1, 0)}


def test_a_restored_timeline_continues_like_the_saved_one(timeline):
    saved = {}
    for device in ("demo.alice", "demo.bob"):
        saved |= {r[:2]: r for r in timeline.update(row(device, 4))}
    timeline.close(T + BASE)
    saved |= {r[:2]: r for r in timeline.update(row("demo.bob", 5, 2))}
    again = Timeline()
    again.restore(timeline.bounds)
    for each in saved.values():
        again.restore_row(each)
    for either in (again, timeline):
        either.update(row("demo.bob", 6, 3))
    for series in (ALL, "demo", "demo.alice", "demo.bob"):
        assert again.last(TEN, 9, series) == timeline.last(TEN, 9, series)
    assert not again.close(T + BASE)  # not closed twice


def test_a_slice_closed_with_nothing_known_is_the_first_one():
    timeline = Timeline()
    assert timeline.bounds == Bounds(0, 0, 0)
    timeline.close(T + 1)
    assert timeline.bounds == Bounds(T, T, 0)


def test_the_details_of_running_slices_are_never_dropped():
    timeline = Timeline(max_details=3)
    timeline.close(T)
    for device in range(9):
        timeline.update(row(f"demo.d{device}", 1))
        timeline.update(row(f"demo.d{device}", 1, start=T + BASE))
    timeline.close(T + BASE)
    assert timeline.bounds.detailed_from == T + BASE
    assert timeline.running(TEN, T + BASE, "demo.d1").messages == 1


def test_a_late_payload_of_a_slice_without_details_counts_over_all_only():
    timeline = Timeline(max_details=1)
    timeline.close(T)
    timeline.update(row("demo.alice", 4))
    timeline.close(T + BASE)
    assert timeline.update(row("demo.bob", 5)) == [Row(T, ALL, 9, 2, 1)]


def test_series_are_named_by_tokens_and_a_sender_has_one_dot():
    assert app_series("my app") == "my=20app"
    assert sender_series("a.b", "c.d") == "a=2Eb.c=2Ed"
    assert sender_series("default", "") == "default."


@given(st.text(min_size=1), st.text())
def test_the_series_of_a_sender_has_exactly_one_dot(app, device):
    assert sender_series(app, device).count(".") == 1


devices = st.sampled_from(["a.1", "a.2", "b.1", "b."])
payloads = st.lists(st.tuples(devices, st.integers(0, 11), st.integers(0, 1000)), max_size=60)


@given(payloads, st.integers(0, 12), st.randoms(use_true_random=False))
def test_sums_agree_in_every_order_with_every_repetition_closed_or_not(sent, closed, shuffle: random.Random):
    totals = []  # after each payload, the totals of its sender in its slice
    so_far: dict[tuple[str, int], Sums] = {}
    for device, step, amount in sent:
        known = so_far.get((device, step), Sums())
        so_far[device, step] = sums = Sums(known.bytes + amount, known.messages + 1)
        totals.append(row(device, *sums[:2], start=T + step * BASE))
    received = totals + shuffle.sample(totals, len(totals) // 2)
    shuffle.shuffle(received)
    timeline = Timeline()
    timeline.close(T)
    half = len(received) // 2
    for each in received[:half]:
        timeline.update(each)
    timeline.close(T + closed * BASE)
    for each in received[half:]:
        timeline.update(each)
    timeline.close(T + 12 * BASE)
    for shape, count in ((TEN, 12), (MINUTE, 2)):
        everything = timeline.last(shape, count)
        assert len(everything) == count
        assert sum(w.bytes for w in everything) == sum(amount for _, _, amount in sent)
        assert sum(w.messages for w in everything) == len(sent)
        apps = [timeline.last(shape, count, app) for app in ("a", "b")]
        assert [w.bytes for w in everything] == [
            sum(w.bytes for w in both) for both in zip(*apps, strict=True)
        ]


def test_sums_beyond_64_bits_leave_as_the_largest_that_there_is(timeline):
    timeline.add(T, {"demo.alice": (2**62, 1), "demo.bob": (2**62 - 1, 1)})
    assert timeline.window(TEN, T) == Window(T, T + BASE, MAX_SUM, 2)
    timeline.add(T, {"demo.bob": (2**62 + 1, 2**63 - 2)})
    assert timeline.window(TEN, T, "demo.alice").bytes == 2**62
    assert timeline.window(TEN, T) == Window(T, T + BASE, MAX_SUM, MAX_SUM)
    assert timeline.senders(T)["demo.bob"] == Sums(MAX_SUM, 2**63 - 1, 0)
    assert {each.series: each[2:] for each in all_rows(timeline)} == {
        "demo.alice": (2**62, 1, 0),
        "demo.bob": (MAX_SUM, MAX_SUM, 0),
        "demo": (MAX_SUM, MAX_SUM, 0),
        ALL: (MAX_SUM, MAX_SUM, 0),
    }


def test_what_names_no_sender_counts_nowhere(timeline):
    assert timeline.update(row("demo", 4)) == timeline.update(row(ALL, 4)) == []
    assert timeline.add(T, {"demo.alice": (4, 1), "demo": (5, 1), ALL: (6, 1)}) == ["demo.alice", "demo", ALL]
    assert [timeline.window(TEN, T, each)[2:4] for each in ("demo.alice", "demo", ALL)] == [(4, 1)] * 3
    assert timeline.senders(T) == {"demo.alice": Sums(4, 1)}


def test_what_a_forgotten_sender_has_sent_is_an_unknown_senders_and_no_sum_changes(timeline):
    timeline.add(T - BASE, {"demo.alice": (1, 1), "demo.bob": (2, 1), "demo.": (4, 1)})  # late
    timeline.add(T, {"demo.alice": (8, 1), "other.alice": (16, 1)})
    timeline.add(T + BASE, {"demo.alice": (32, 1)})
    timeline.forget("demo.alice", T + 5)
    timeline.forget("demo.eve", T + BASE)  # who is not known, yet
    assert timeline.add(T - BASE, {"demo.alice": (64, 1), "demo.eve": (128, 2)}) == ["demo.", "demo", ALL]
    timeline.add(T + BASE, {"demo.eve": (256, 1), "demo.alice": (512, 1)})
    assert {
        each[1:3]: each[0] - T for each in all_rows(timeline) if each.series.endswith((".alice", ".eve"))
    } == {
        ("other.alice", 16): 0,
        ("demo.alice", 32 + 512): BASE,
    }
    assert timeline.window(TEN, T - BASE, "demo.") == Window(T - BASE, T, 1 + 4 + 64 + 128, 5, 5)
    assert timeline.window(TEN, T, "demo.") == Window(T, T + BASE, 8, 1)
    assert timeline.window(TEN, T - BASE, "demo")[2:] == (1 + 2 + 4 + 64 + 128, 6, 6)
    assert timeline.window(TEN, T + BASE)[2:4] == (32 + 256 + 512, 3)
    assert timeline.corrected(TEN, 0, "demo.alice") == []
    assert len(timeline.forgotten.until) == 2
    assert timeline.corrected(TEN, 0, "demo.bob")


def test_details_are_counted_right_when_senders_are_forgotten():
    timeline = Timeline(max_details=5)
    timeline.add(T, {"demo.a": (1, 1), "demo.b": (1, 1), "demo.c": (1, 1)})
    for each in "abc":
        timeline.forget(f"demo.{each}", T)
    timeline.add(T + BASE, {"demo.d": (1, 1), "demo.e": (1, 1)})  # with those of apps 5
    timeline.close(T + 2 * BASE)
    assert timeline.bounds.detailed_from == 0
    timeline.add(T, {"demo.f": (1, 1)})
    assert timeline.bounds.detailed_from == 0
    timeline.add(T + 2 * BASE, {"demo.f": (1, 1)})
    timeline.close(T + 3 * BASE)
    assert timeline.bounds.detailed_from == T + BASE
