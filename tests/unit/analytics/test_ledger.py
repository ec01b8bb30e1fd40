from cloudmatch_analytics.archive import Archive
from cloudmatch_analytics.core.kafka_records import Sums, Tick
from cloudmatch_analytics.core.windows import ALL, BASE, KEPT, Row, Shape, Window
from cloudmatch_analytics.window_store import Kept, Ledger, Watermarks, announcement, lateness

T = 1_700_000_000_000 // 60_000 * 60_000
TEN, MINUTE = Shape(BASE, BASE), Shape(60_000, 60_000)
LAG = 1000


def ledger():
    made = Ledger(2, LAG)
    made.take(ticks(T + LAG))
    return made


def ticks(at):
    return [Tick(0, at), Tick(1, at)]


def test_time_is_unknown_until_every_partition_was_heard_and_then_the_slowest_ones():
    marks = Watermarks(2)
    marks.advance(0, 50)
    assert marks.low() is None
    marks.advance(1, 20)
    assert marks.low() == 20
    marks.advance(1, 10)
    assert marks.low() == 20


def test_a_window_closes_when_the_last_partition_is_past_its_end_and_the_lag():
    made = ledger()
    news = made.take([Sums(T, {"demo.alice": (4, 1)}), Tick(0, T + 99_000), Tick(1, T + BASE + LAG - 1)])
    assert news.closed == []
    assert made.take([Tick(1, T + BASE + LAG)]).closed == [Window(T, T + BASE, 4, 1)]
    assert made.take([Tick(1, T + BASE + LAG)]).closed == []


def test_sizes_close_each_at_its_time():
    made = ledger()
    made.take([Sums(T, {"demo.alice": (4, 1)})])
    assert [w.end - w.start for w in made.take(ticks(T + 59_999 + LAG)).closed] == [BASE]
    assert [w.end - w.start for w in made.take(ticks(T + 60_000 + LAG)).closed] == [60_000]


def test_a_running_window_shows_what_it_has_so_far():
    made = ledger()
    made.take([Sums(T, {"demo.alice": (4, 1)}), Sums(T, {"demo.alice": (9, 2)})])
    assert made.running(TEN, T + 3_000, "demo") == (T, T + BASE, 9, 2, 0)


def test_of_rows_that_change_together_each_is_given_once_with_its_last_value():
    news = ledger().take([Sums(T, {"demo.alice": (4, 1), "demo.bob": (5, 1)}), Sums(T, {"demo.bob": (6, 2)})])
    assert sorted(news.rows) == [
        Row(T, ALL, 10, 3),
        Row(T, "demo", 10, 3),
        Row(T, "demo.alice", 4, 1),
        Row(T, "demo.bob", 6, 2),
    ]


def test_what_came_late_is_told_by_sender_and_only_what_came_late():
    made = ledger()
    made.take([Sums(T, {"demo.alice": (4, 1)}), *ticks(T + BASE + LAG)])
    news = made.take([Sums(T, {"demo.alice": (9, 3)}), Sums(T + BASE, {"demo.alice": (1, 1)})])
    assert news.late == [Row(T, "demo.alice", 5, 2)]
    assert made.take([Sums(T, {"demo.alice": (9, 3)})]).late == []
    assert made.corrected(TEN, 0) == [Window(T, T + BASE, 9, 3, 2)]


def test_windows_are_behind_by_what_they_close_too_late():
    made = ledger()
    made.take(ticks(T + BASE + LAG))
    assert made.closed_until == T + BASE
    assert made.behind(T + 2 * BASE + LAG) == 0
    assert made.behind(T + 2 * BASE + LAG + 7_000) == 7_000
    assert Ledger(2, LAG).behind(T) == 0


def test_an_archive_brings_back_what_was_there_and_where_to_read_on(tmp_path):
    first, archive = ledger(), Archive(tmp_path / "slices.sqlite")
    rows = first.take([Sums(T, {"demo.alice": (4, 1)}), *ticks(T + 3 * BASE + LAG)]).rows
    archive.save(rows, first.kept(), "here", {0: 7, 1: 9})
    archive.close()

    second, archive = Ledger(2, LAG), Archive(tmp_path / "slices.sqlite")
    second.restore(*archive.load())
    for key in (ALL, "demo", "demo.alice"):
        assert [w.bytes for w in second.last(TEN, 9, key)] == [4, 0, 0]
    assert second.kept() == first.kept()
    assert archive.places("here") == {0: 7, 1: 9}
    assert archive.places("elsewhere") == {}
    archive.save([], second.kept(), "elsewhere", {0: 1})
    assert archive.places("here") == {}
    archive.close()


def test_an_archive_keeps_nothing_that_the_ledger_has_let_go(tmp_path):
    archive = Archive(tmp_path / "slices.sqlite")
    rows = [Row(T + step * BASE, key, 1, 1) for step in range(3) for key in (ALL, "demo", "demo.alice")]
    archive.save(rows, Kept(T + 3 * BASE, T + BASE, T + 2 * BASE), "here", {})
    kept = [(row.start, row.key) for row in archive.load()[0]]
    assert kept == [(T + BASE, ALL), *((T + 2 * BASE, key) for key in (ALL, "demo", "demo.alice"))]
    archive.close()


def test_the_log_says_what_a_closed_window_held():
    assert announcement(Window(T, T + BASE, 4, 1)) == "bytes exchanged in the previous 10 seconds: 4"


def test_what_is_older_than_anything_kept_is_told_and_changes_nothing():
    made = ledger()
    made.take(ticks(T + KEPT + 60_000 + LAG))
    news = made.take([Sums(T - BASE, {"demo.alice": (5, 2)}), Sums(T + 60_000, {"demo.alice": (7, 1)})])
    assert news.too_late == [Row(T - BASE, "demo.alice", 5, 2)]
    assert news.late == [Row(T + 60_000, "demo.alice", 7, 1)]
    assert sum(w.bytes for w in made.last(TEN, 10_000)) == 7


def test_the_log_names_who_was_late_and_for_which_window():
    late = [Row(T, "demo.alice", 5, 2), Row(T, "demo.bob", 1, 1), Row(T + BASE, "demo.bob", 7, 1)]
    first, second = lateness(late)
    assert first == "3 payloads, 6 bytes, of demo.alice, demo.bob for the window of 2023-11-14T22:13:00+00:00"
    assert "1 payloads, 7 bytes, of demo.bob" in second
    (many,) = lateness([Row(T, f"demo.d{i}", 1, 1) for i in range(9)])
    assert "and 4 more" in many
