"""Windows on disk."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudmatch_analytics.archive import Archive
from cloudmatch_analytics.core.kafka_records import Added, SliceSums, Watermark
from cloudmatch_analytics.core.windows import ALL, BASE, Bounds, Row, Shape
from cloudmatch_analytics.window_store import WindowStore

T = 1_700_000_000_000 // 60_000 * 60_000
SLICE = Shape(BASE, BASE)


class Reopened:
    """An archive in one file that can be closed and opened again."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.archive = Archive(file)

    def again(self) -> Archive:
        self.archive.close()
        self.archive = Archive(self.file)
        return self.archive


@pytest.fixture
def reopened(tmp_path: Path) -> Iterator[Reopened]:
    reopened = Reopened(tmp_path / "slices.sqlite")
    yield reopened
    reopened.archive.close()


def test_an_archive_restores_windows_and_offsets_after_a_restart(reopened: Reopened) -> None:
    first = WindowStore(1, 0)
    results = [Watermark(0, T), SliceSums(T, {"demo.alice": (4, 1)}), Watermark(0, T + 3 * BASE)]
    rows = first.rows(first.fold(results).changed)
    reopened.archive.save(rows, first.bounds(), "here", {0: 7, 1: 9}, {})
    archive, second = reopened.again(), WindowStore(1, 0)
    second.restore(*archive.load())
    for series in (ALL, "demo", "demo.alice"):
        assert [w.bytes for w in second.last(SLICE, 9, series)] == [4, 0, 0]
    assert second.bounds() == first.bounds()
    assert archive.offsets("here") == {0: 7, 1: 9}


def test_offsets_of_another_broker_are_unknown_and_replace_those_saved_before(reopened: Reopened) -> None:
    archive = reopened.archive
    archive.save([], Bounds(), "here", {0: 7}, {})
    assert archive.offsets("elsewhere") == {}
    archive.save([], Bounds(), "elsewhere", {0: 1}, {})
    assert archive.offsets("here") == {}
    assert archive.offsets("elsewhere") == {0: 1}


def test_an_archive_deletes_what_is_out_of_bounds(reopened: Reopened) -> None:
    rows = [Row(T + step * BASE, series, 1, 1) for step in range(3) for series in (ALL, "demo", "demo.alice")]
    reopened.archive.save(rows, Bounds(T + 3 * BASE, T + BASE, T + 2 * BASE), "here", {}, {})
    saved = [(row.start, row.series) for row in reopened.archive.load()[0]]
    assert saved == [(T + BASE, ALL), *((T + 2 * BASE, series) for series in (ALL, "demo", "demo.alice"))]


def test_a_file_of_an_older_version_is_still_read(tmp_path: Path) -> None:
    file = tmp_path / "slices.sqlite"
    old = sqlite3.connect(file)
    old.executescript("""
        CREATE TABLE sums (
            start INTEGER, key TEXT, bytes INTEGER, messages INTEGER, late INTEGER, PRIMARY KEY (start, key)
        ) WITHOUT ROWID;
        CREATE TABLE kept (
            one INTEGER PRIMARY KEY, closed_until INTEGER, first INTEGER, detailed_from INTEGER
        );
        CREATE TABLE places (
            broker TEXT, partition INTEGER, next INTEGER, PRIMARY KEY (broker, partition)
        );
        INSERT INTO sums VALUES (1700000000000, 'demo.alice', 4, 1, 0);
        INSERT INTO kept VALUES (1, 1700000010000, 1700000000000, 0);
        INSERT INTO places VALUES ('here', 2, 17);
    """)
    old.close()
    archive = Archive(file)
    assert archive.load() == (
        [Row(1_700_000_000_000, "demo.alice", 4, 1, 0)],
        Bounds(1_700_000_010_000, 1_700_000_000_000, 0),
        {},
    )
    assert archive.offsets("here") == {2: 17}
    archive.close()


def test_an_archive_knows_which_records_it_contains(reopened: Reopened) -> None:
    reopened.archive.save([], Bounds(), "here", {}, {("log", 0): 7, ("log", 1): 9})
    reopened.archive.save([], Bounds(), "here", {}, {("log", 0): 8, ("log", 1): 9, ("new", 0): 0})
    archive, store = reopened.again(), WindowStore(2, 0)
    store.restore(*archive.load())
    assert store.offsets() == {("log", 0): 8, ("log", 1): 9, ("new", 0): 0}
    assert store.fold([Added("log", 0, 8, T, {"demo.alice": (4, 1)})]).changed == {}
    assert store.fold([Added("log", 0, 9, T, {"demo.alice": (4, 1)})]).changed
