"""Windows on disk."""

import contextlib
import os
import random
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudmatch_analytics.archive import Archive
from cloudmatch_analytics.core.kafka_records import Added, Forget, SliceSums, Watermark
from cloudmatch_analytics.core.windows import ALL, BASE, Bounds, Row, Shape
from cloudmatch_analytics.window_store import WindowStore

T = 1_700_000_000_000 // 60_000 * 60_000
SLICE = Shape(BASE, BASE)


class Reopened:
    """An archive in one file that can be closed and opened again."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.archive = Archive(file)
        self.archive.load()

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
    archive = reopened.again()
    archive.load()
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


ROWS = [Row(T, "demo.alice", 4, 1), Row(T, "demo", 4, 1), Row(T, ALL, 4, 1)]


def saved(file: Path) -> Archive:
    """An archive that was written and closed."""
    archive = Archive(file)
    archive.load()
    assert archive.save(ROWS, Bounds(T + BASE, T, 0), "here", {0: 7}, {("log", 0): 3})
    archive.close()
    return archive


@contextlib.contextmanager
def no_space(limit: int) -> Iterator[None]:
    """Let no file grow beyond `limit` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_cannot_be_saved_on_a_full_disk_is_saved_when_there_is_space(reopened: Reopened) -> None:
    archive = reopened.archive
    with no_space(0):
        assert not archive.save(ROWS, Bounds(T + BASE, T, 0), "here", {0: 7}, {})
        assert archive.problem
        assert str(reopened.file) in archive.problem
        assert archive.complete
    assert archive.save(ROWS, Bounds(T + BASE, T, 0), "here", {0: 7}, {})
    assert archive.problem is None
    assert sorted(reopened.again().load().rows) == sorted(ROWS)


def test_a_full_disk_at_the_start_hides_nothing_and_loses_nothing(tmp_path: Path) -> None:
    file = tmp_path / "slices.sqlite"
    saved(file)
    archive = Archive(file)
    with no_space(0):
        assert sorted(archive.load().rows) == sorted(ROWS)
        assert archive.problem
    assert archive.offsets("here") == {0: 7}
    assert not archive.complete
    assert archive.save([*ROWS, Row(T + BASE, ALL, 1, 1)], Bounds(T + BASE, T, 0), "here", {0: 8}, {})
    archive.close()
    assert len(Archive(file).load().rows) == 4


@pytest.mark.parametrize("damage", ["head", "page", "empty page", "type", "schema", "truncated"])
def test_a_damaged_file_is_put_aside_and_written_again(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "slices.sqlite"
    saved(file)
    whole = file.read_bytes()
    page = 4096
    match damage:
        case "head":
            file.write_bytes(b"not a database" + whole[14:])
        case "page":
            file.write_bytes(whole[:page] + os.urandom(page) + whole[2 * page :])
        case "empty page":
            file.write_bytes(whole[:page] + bytes(page) + whole[2 * page :])
        case "truncated":
            file.write_bytes(whole[: len(whole) // 2 + 100])
        case _:
            change = (
                "UPDATE sums SET bytes = 'x'" if damage == "type" else "ALTER TABLE sums DROP COLUMN late"
            )
            with contextlib.closing(sqlite3.connect(file)) as db:
                db.execute(change)
                db.commit()
    archive = Archive(file)
    archive.load()
    assert not archive.complete
    assert archive.save(ROWS, Bounds(T + BASE, T, 0), "here", {0: 9}, {("log", 0): 5})
    archive.close()
    again = Archive(file)
    assert sorted(again.load().rows) == sorted(ROWS)
    again.close()
    assert [each.name for each in tmp_path.glob("*damaged*")]


@pytest.mark.parametrize("seed", range(100))
def test_any_flipped_byte_is_found_or_changes_numbers_only(tmp_path: Path, seed: int) -> None:
    file = tmp_path / "slices.sqlite"
    saved(file)
    chance = random.Random(seed)  # noqa: S311 # no secret
    whole = bytearray(file.read_bytes())
    for _ in range(chance.choice((1, 20))):
        whole[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
    file.write_bytes(whole)
    archive = Archive(file)
    rows, bounds, added, _ = archive.load()
    store = WindowStore(1, 0)
    store.restore(rows, bounds, added)
    assert archive.save(store.rows(None), store.bounds(), "here", {0: 1}, {})
    archive.close()


def test_a_file_that_becomes_damaged_while_it_is_used_is_put_aside_and_needs_all_rows(
    tmp_path: Path,
) -> None:
    file = tmp_path / "slices.sqlite"
    saved(file)
    archive = Archive(file)
    archive.load()
    file.write_bytes(os.urandom(len(file.read_bytes())))
    archive.close()
    assert not archive.save([], Bounds(T + BASE, T, 0), "here", {0: 8}, {})
    assert not archive.complete
    assert archive.problem is None
    assert archive.save(ROWS, Bounds(T + BASE, T, 0), "here", {0: 8}, {})
    archive.close()
    assert len(Archive(file).load().rows) == 3


@pytest.mark.parametrize("obstacle", ["a folder is a file", "the file is a folder"])
def test_what_stands_in_the_way_is_named_and_nothing_else_happens(tmp_path: Path, obstacle: str) -> None:
    folder = tmp_path / "analytics"
    file = folder / "slices.sqlite"
    if obstacle == "a folder is a file":
        folder.write_text("")
    else:
        file.mkdir(parents=True)
    archive = Archive(file)
    assert archive.load().rows == []
    assert not archive.save(ROWS, Bounds(), "here", {}, {})
    assert archive.problem
    assert str(folder) in archive.problem
    folder.unlink() if obstacle == "a folder is a file" else file.rmdir()
    assert archive.save(ROWS, Bounds(T + BASE, T, 0), "here", {}, {})
    archive.close()
    assert len(Archive(file).load().rows) == 3


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE sums SET bytes = -5",
        "UPDATE sums SET messages = -9223372036854775808",
        "UPDATE sums SET start = 9223372036854775807",
        "UPDATE sums SET start = start + 1",
        "UPDATE kept SET closed_until = -1",
        "UPDATE kept SET detailed_from = 9223372036854775807",
        "UPDATE kept SET first = 'x'",
        "UPDATE kept SET first = NULL",
        "UPDATE places SET next = -1",
        "UPDATE added SET last = -2",
    ],
)
def test_rows_that_are_impossible_are_left_out_and_all_others_written_again(
    tmp_path: Path, change: str
) -> None:
    file = tmp_path / "slices.sqlite"
    saved(file)
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute("INSERT INTO sums VALUES (?, 'demo.bob', 9, 1, 0)", (T,))
        db.execute(change + (f" WHERE start = {T + BASE}" if "sums" in change else ""))
        db.commit()
    archive = Archive(file)
    rows, bounds, added, _ = archive.load()
    assert Row(T, "demo.bob", 9, 1) in rows
    assert all(number >= 0 for row in rows for number in (row.start, *row[2:]))
    store = WindowStore(1, 0)
    store.restore(rows, bounds, added)
    assert archive.save(store.rows(None), store.bounds(), "here", {0: 1}, {})
    assert archive.complete
    archive.close()
    again = Archive(file)
    assert sorted(again.load().rows) == sorted(rows)
    assert again.complete
    again.close()
    assert not list(tmp_path.glob("*damaged*"))


def test_sums_that_no_database_can_hold_are_saved_as_the_largest_and_what_is_damaged_may_grow(
    tmp_path: Path,
) -> None:
    archive = Archive(tmp_path / "slices.sqlite")
    archive.load()
    store = WindowStore(1, 0)
    store.restore([Row(T, "demo.bob", 2**62, 2**63 - 1)], Bounds(), {})  # without the app, and over all
    store.fold([Added("log", 0, 0, T, {"demo.bob": (2**62, 1), "demo.eve": (2**62 - 1, 1)})])
    assert archive.save(store.rows(None), store.bounds(), "here", {0: 1}, store.offsets())
    saved_rows = {row.series: row[2:4] for row in archive.load().rows}
    assert saved_rows["demo.bob"] == (2**63 - 1, 2**63 - 1)
    assert saved_rows[ALL] == (2**63 - 1, 2)
    assert saved_rows["demo.eve"] == (2**62 - 1, 1)
    archive.close()


def test_no_file_has_the_name_of_who_is_forgotten(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "slices.sqlite")
    archive.load()
    store = WindowStore(1, 0)
    store.fold([Added("log", 0, 0, T, {f"demo.alice{number}": (4, 1) for number in range(500)})])
    assert archive.save(store.rows(None), store.bounds(), "here", {0: 1}, store.offsets())
    for number in range(500):
        store.fold([Forget(f"demo.alice{number}", T)])
    archive.complete = False
    saved_as = store.rows(None), store.bounds(), "here", {0: 2}, store.offsets(), store.forgotten()
    assert archive.save(*saved_as)
    assert not [file for file in tmp_path.iterdir() if b"alice" in file.read_bytes()]
    again = Archive(tmp_path / "slices.sqlite")
    saved_rows, _, _, forgotten = again.load()
    assert {row.series: row.bytes for row in saved_rows} == {"demo.": 2000, "demo": 2000, ALL: 2000}
    assert forgotten == store.forgotten()
    archive.close()
    again.close()
