from cloudmatch_analytics.archive import Archive
from cloudmatch_analytics.ledger import Ledger, Watermarks, announcement
from cloudmatch_analytics.windows import ALL, Row, Window

T = 1_700_000_000_000 // 60_000 * 60_000
SIZES = {"10s": 10_000, "60s": 60_000}
LAG = 1000


def ledger(partitions=2):
    return Ledger(SIZES, partitions, LAG)


def advance(made, at):
    for partition in range(2):
        made.advance(partition, at)


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
    advance(made, T)
    made.settle()
    made.close([Row(10_000, T, "demo.alice", 4, 1)], [])
    made.advance(0, T + 99_000)
    made.advance(1, T + 10_000 + LAG - 1)
    assert made.settle() == []
    made.advance(1, T + 10_000 + LAG)
    assert made.settle() == [Window(T, T + 10_000, 4, 1)]


def test_sizes_close_each_at_its_time():
    made = ledger()
    made.close([Row(size, T, "demo.alice", 4, 1) for size in SIZES.values()], [])
    advance(made, T + 59_999 + LAG)
    assert [w.end - w.start for w in made.settle()] == [10_000]
    advance(made, T + 60_000 + LAG)
    assert [w.end - w.start for w in made.settle()] == [60_000]


def test_a_running_window_shows_what_it_has_so_far():
    made = ledger()
    made.run(Row(10_000, T, "demo.alice", 4, 1))
    made.run(Row(10_000, T, "demo.alice", 9, 2))
    assert made.running(10_000, T + 3_000, "demo") == (T, T + 10_000, 9, 2)


def test_of_rows_that_change_together_each_is_given_once_with_its_last_value():
    changed = ledger().close(
        [Row(10_000, T, "demo.alice", 4, 1), Row(10_000, T, "demo.bob", 5, 1)],
        [Row(10_000, T, "demo.bob", 1, 1)],
    )
    assert sorted(changed) == [
        Row(10_000, T, ALL, 10, 3),
        Row(10_000, T, "demo", 10, 3),
        Row(10_000, T, "demo.alice", 4, 1),
        Row(10_000, T, "demo.bob", 6, 2),
    ]


def test_an_archive_brings_back_what_was_there(tmp_path):
    first, archive = ledger(), Archive(tmp_path / "windows.sqlite")
    advance(first, T)
    first.settle()
    rows = first.close([Row(10_000, T, "demo.alice", 4, 1)], [])
    advance(first, T + 30_000 + LAG)
    first.settle()
    archive.save(rows, first.kept())
    archive.close()

    second, archive = ledger(), Archive(tmp_path / "windows.sqlite")
    second.restore(*archive.load())
    for key in (ALL, "demo", "demo.alice"):
        assert [w.bytes for w in second.last(10_000, 9, key)] == [4, 0, 0]
    assert second.closed_until(10_000) == T + 30_000
    archive.close()


def test_an_archive_drops_what_is_not_kept(tmp_path):
    made, archive = ledger(), Archive(tmp_path / "windows.sqlite")
    advance(made, T)
    made.settle()
    archive.save(made.close([Row(10_000, T, "demo.alice", 4, 1)], []), made.kept())
    later = T + 100_000_000
    advance(made, later + LAG)
    rows = made.close([Row(10_000, later, "demo.alice", 5, 1)], [])
    made.settle()
    archive.save(rows, made.kept())
    assert {row.start for row in archive.load()[0]} == {later}
    archive.close()


def test_the_log_says_what_a_window_held():
    assert announcement(Window(T, T + 10_000, 4, 1)) == "bytes exchanged in the previous 10 seconds: 4"
