"""Windows as results are folded in."""

import pytest

from cloudmatch_analytics.core.kafka_records import Added, Forget, SliceSums, Watermark
from cloudmatch_analytics.core.windows import ALL, BASE, RETAINED, Bounds, Row, Shape, Sums, Window
from cloudmatch_analytics.window_store import PIECE, STUCK, WindowStore, describe_closed, describe_late

T = 1_700_000_000_000 // 60_000 * 60_000
TEN = Shape(BASE, BASE)
LAG = 1000


def window_store() -> WindowStore:
    store = WindowStore(2, LAG)
    store.fold(watermarks(T + LAG))
    return store


def watermarks(at: int) -> list[Watermark]:
    return [Watermark(0, at), Watermark(1, at)]


def test_a_window_closes_when_the_slowest_partition_has_passed_its_end_and_the_lag() -> None:
    store = window_store()
    early = [SliceSums(T, {"demo.alice": (4, 1)}), Watermark(0, T + 99_000), Watermark(1, T + BASE + LAG - 1)]
    assert store.fold(early).closed == []
    assert store.fold([Watermark(1, T + BASE + LAG)]).closed == [Window(T, T + BASE, 4, 1)]
    assert store.fold([Watermark(1, T + BASE + LAG)]).closed == []


def test_windows_of_each_size_close_at_their_own_time() -> None:
    store = window_store()
    store.fold([SliceSums(T, {"demo.alice": (4, 1)})])
    assert [w.end - w.start for w in store.fold(watermarks(T + 59_999 + LAG)).closed] == [BASE]
    assert [w.end - w.start for w in store.fold(watermarks(T + 60_000 + LAG)).closed] == [60_000]


def test_a_running_window_shows_its_sums_so_far() -> None:
    store = window_store()
    store.fold([SliceSums(T, {"demo.alice": (4, 1)}), SliceSums(T, {"demo.alice": (9, 2)})])
    assert store.running(TEN, T + 3_000, "demo") == (T, T + BASE, 9, 2, 0)


def test_an_update_has_each_changed_row_once_with_its_last_value() -> None:
    sums = [SliceSums(T, {"demo.alice": (4, 1), "demo.bob": (5, 1)}), SliceSums(T, {"demo.bob": (6, 2)})]
    store = window_store()
    assert sorted(store.rows(store.fold(sums).changed)) == [
        Row(T, ALL, 10, 3),
        Row(T, "demo", 10, 3),
        Row(T, "demo.alice", 4, 1),
        Row(T, "demo.bob", 6, 2),
    ]


def test_an_update_has_what_was_added_late_by_sender_and_nothing_else() -> None:
    store = window_store()
    store.fold([SliceSums(T, {"demo.alice": (4, 1)}), *watermarks(T + BASE + LAG)])
    update = store.fold([SliceSums(T, {"demo.alice": (9, 3)}), SliceSums(T + BASE, {"demo.alice": (1, 1)})])
    assert update.late == [Row(T, "demo.alice", 5, 2)]
    assert store.fold([SliceSums(T, {"demo.alice": (9, 3)})]).late == []
    assert store.corrected(TEN, 0) == [Window(T, T + BASE, 9, 3, 2)]


def added(offset: int, amount: int = 4, start: int = T, log: str = "here", partition: int = 0) -> Added:
    return Added(log, partition, offset, start, {"demo.alice": (amount, 1)})


def test_a_record_is_added_once_however_often_its_result_comes() -> None:
    store = window_store()
    update = store.fold([added(7), added(8, 5), added(7), added(8, 5)])
    assert store.fold([added(8, 5)]).changed == {}
    assert min(store.rows(update.changed)) == Row(T, ALL, 9, 2)
    assert store.offsets() == {("here", 0): 8}


def test_offsets_are_of_one_log_and_one_partition() -> None:
    store = window_store()
    store.fold([added(7), added(7, partition=1), added(7, log="a new one")])
    assert store.running(TEN, T).messages == 3
    again = WindowStore(2, LAG)
    again.restore([], store.bounds(), store.offsets())
    assert again.fold([added(7), added(7, partition=1), added(7, log="a new one")]).changed == {}


def test_what_is_added_late_is_named_and_what_is_too_late_is_reported() -> None:
    store = window_store()
    newest = SliceSums(T + RETAINED + 60_000, {"demo.bob": (1, 1)})
    store.fold([newest, *watermarks(T + RETAINED + 60_000 + LAG)])
    update = store.fold([added(1, start=T - BASE), added(2, start=T + 60_000)])
    assert update.too_late == [Row(T - BASE, "demo.alice", 4, 1)]
    assert update.late == [Row(T + 60_000, "demo.alice", 4, 1)]
    assert store.running(TEN, T + 60_000) == (T + 60_000, T + 70_000, 4, 1, 1)


def test_sums_older_than_all_retained_slices_are_reported_and_change_nothing() -> None:
    store = window_store()
    newest = SliceSums(T + RETAINED + 60_000, {"demo.bob": (1, 1)})
    store.fold([newest, *watermarks(T + RETAINED + 60_000 + LAG)])
    too_late = SliceSums(T - BASE, {"demo.alice": (5, 2)})
    update = store.fold([too_late, SliceSums(T + 60_000, {"demo.alice": (7, 1)})])
    assert update.too_late == [Row(T - BASE, "demo.alice", 5, 2)]
    assert update.late == [Row(T + 60_000, "demo.alice", 7, 1)]
    assert sum(w.bytes for w in store.last(TEN, 10_000)) == 7


DAY = 86_400_000


class Hand:
    """A clock whose hand a test moves."""

    def __init__(self) -> None:
        self.at = T + BASE

    def __call__(self) -> int:
        return self.at


@pytest.mark.parametrize("ahead", [10 * 60_000, 2 * DAY])
def test_a_watermark_of_a_clock_that_is_ahead_counts_as_now_and_is_reported(ahead: int) -> None:
    hand = Hand()
    store = WindowStore(2, LAG, hand)
    assert store.fold([SliceSums(T, {"demo.alice": (4, 1)}), *watermarks(T + BASE + ahead)]).ahead == ahead
    assert store.closed_until == T
    hand.at = T + BASE + LAG
    assert store.fold(watermarks(T + BASE + LAG)).closed == [Window(T, T + BASE, 4, 1)]
    assert store.fold(watermarks(hand.at + 900)).ahead == 0  # clocks are never the same


@pytest.mark.parametrize("back", [10 * 60_000, 2 * DAY])
def test_windows_go_on_closing_after_the_clock_was_ahead(back: int) -> None:
    hand = Hand()
    store = WindowStore(2, LAG, hand)
    store.fold([SliceSums(T - BASE, {"demo.alice": (4, 1)}), *watermarks(T + BASE)])
    hand.at += back
    store.fold(watermarks(hand.at))
    assert store.closed_until == T + back
    hand.at -= back
    assert store.fold(watermarks(hand.at)).reopened
    update = store.fold([added(1), *watermarks(hand.at + 1)])
    assert (update.reopened, update.late, update.too_late) == (False, [], [])
    hand.at += LAG
    assert store.fold(watermarks(hand.at)).closed == [Window(T, T + BASE, 4, 1)]
    assert [w.bytes for w in store.last(TEN, 2)] == [4, 4]


def test_a_restored_archive_of_a_clock_that_was_ahead_closes_nothing_that_has_not_ended() -> None:
    hand = Hand()
    hand.at += LAG
    store = WindowStore(2, LAG, hand)
    assert not store.restore([], Bounds(T + BASE, T, 0), {})
    assert store.restore([Row(T, ALL, 4, 1)], Bounds(T + 2 * DAY, T, 0), {})
    assert store.last(TEN, 5) == [Window(T, T + BASE, 4, 1)]


def test_it_is_a_problem_when_neither_sums_nor_the_watermark_advance(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 100.0
    monkeypatch.setattr("cloudmatch_analytics.window_store.monotonic", lambda: seconds)
    store = WindowStore(2, LAG)
    store.fold([Watermark(0, T)])
    for step, results in enumerate(
        ([Watermark(1, T)], [added(1)], [Watermark(0, T + 1), Watermark(1, T + 1)])
    ):
        seconds = 100.0 + (step + 1) * (STUCK - 1)
        store.fold(results)
        assert store.problem() is None
    seconds += STUCK - 1
    store.fold([Watermark(1, T + 2)])  # not the slowest
    seconds += 1
    assert store.problem() == "no window closes: partition 0 is silent for 8 s"


def test_windows_are_behind_by_the_time_that_they_close_too_late() -> None:
    store = window_store()
    store.fold(watermarks(T + BASE + LAG))
    assert store.closed_until == T + BASE
    assert store.behind(T + 2 * BASE + LAG) == 0
    assert store.behind(T + 2 * BASE + LAG + 7_000) == 7_000
    assert WindowStore(2, LAG).behind(T) == 0


def test_the_senders_since_a_time_have_their_sums_since_then() -> None:
    store = window_store()
    store.fold([SliceSums(T, {"demo.alice": (4, 1)}), SliceSums(T + BASE, {"demo.alice": (5, 1)})])
    assert store.senders(T + BASE) == {"demo.alice": (5, 1, 0)}


def test_the_log_line_of_a_closed_window_has_its_bytes() -> None:
    assert describe_closed(Window(T, T + BASE, 4, 1)) == "bytes exchanged in the previous 10 seconds: 4"


def test_the_log_lines_of_late_payloads_name_window_and_senders() -> None:
    late = [Row(T, "demo.alice", 5, 2), Row(T, "demo.bob", 1, 1), Row(T + BASE, "demo.bob", 7, 1)]
    first, second = describe_late(late)
    assert (
        first == "3 payloads, 6 bytes, from demo.alice, demo.bob for the window of 2023-11-14T22:13:00+00:00"
    )
    assert "1 payloads, 7 bytes, from demo.bob" in second
    (many,) = describe_late([Row(T, f"demo.d{i}", 1, 1) for i in range(9)])
    assert "and 4 more" in many


def test_a_sender_is_forgotten_among_results_before_and_after() -> None:
    store = window_store()
    results = [Added("log", 0, 0, T, {"demo.alice": (4, 1)}), Forget("demo.alice", T)]
    assert store.fold(results).forgotten
    assert not store.fold([Added("log", 1, 0, T, {"demo.alice": (5, 1)})]).forgotten
    assert store.senders(T) == {"demo.": Sums(9, 2)}
    again = window_store()
    again.restore(store.rows(None), store.bounds(), store.offsets(), store.forgotten())
    again.fold([Added("log", 1, 1, T, {"demo.alice": (6, 1)})])
    assert again.senders(T) == {"demo.": Sums(15, 3)}
    again.fold(watermarks(T + BASE + LAG))
    late = again.fold([Added("log", 2, 1, T, {"demo.alice": (6, 1)})]).late
    assert late == [Row(T, "demo.", 6, 1)]


def test_many_windows_are_the_same_as_one_by_one() -> None:
    store = WindowStore(1, LAG)
    store.fold([Added("log", n, 0, T + n * BASE, {"demo.alice": (n, 1)}) for n in range(PIECE + 7)])
    store.fold([Watermark(0, T + (PIECE + 7) * BASE + LAG)])
    windows = store.last(TEN, 2 * PIECE)
    assert [(each.start, each.bytes) for each in windows] == [(T + n * BASE, n) for n in range(PIECE + 7)]
    assert store.last(TEN, 2) == windows[-2:]
    assert len(store.rows(None)) == 3 * (PIECE + 7)
