"""The journal on disk."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudmatch_bus.contract.deliveries import Claim, span
from cloudmatch_bus.contract.messages import AmountReported, MatchMade
from cloudmatch_journal.core import segments
from cloudmatch_journal.core.shown import shown
from cloudmatch_journal.files import BASE, StoreError
from cloudmatch_journal.store import Store
from unit.journal.reopened import SIZE, Reopened, entries, everything, fill
from unit.journal.samples import claimed, counted


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Reopened]:
    journal = Reopened(tmp_path / "journal")
    yield journal
    journal.store.close()


@pytest.mark.parametrize("name", ["\U0010ffff" * 64, "温" * 40, "../../etc", "a/b\\c\r\n\0", "'\"; --"])
def test_any_id_is_stored_and_found_and_makes_no_file_of_its_own(journal: Reopened, name: str) -> None:
    facts = [
        MatchMade(app=name, at=1, match=1, device=name, peer="b", distance=0),
        AmountReported(app=name, at=2, device=name, event_type="bytesSent", amount=1),
    ]
    journal.store.append(list(enumerate(facts, 1)))
    assert [fact for _, fact in journal.again().read(0, 10, device=(name, name)).entries] == facts
    assert all(len(file.name) < 40 for file in journal.files("**/*"))


def test_events_are_read_back_in_order_across_segments_and_restarts(journal: Reopened) -> None:
    assert journal.store.append(entries(1, 2, 5)) == 3
    assert journal.store.append(entries(7, 8)) == 2
    assert journal.store.append(entries(9, 20)) == 2
    assert everything(journal.store) == entries(1, 2, 5, 7, 8, 9, 20)
    assert everything(journal.again()) == entries(1, 2, 5, 7, 8, 9, 20)
    assert journal.store.position == 20
    assert len(journal.files("*.jsonl")) == 2


def test_a_position_is_stored_once(journal: Reopened) -> None:
    journal.store.append(entries(1, 2, 3))
    assert journal.store.append(entries(2, 3, 4)) == 1
    assert journal.again().append(entries(1, 2, 3, 4)) == 0
    assert everything(journal.store) == entries(1, 2, 3, 4)


def test_pages_are_contiguous_while_events_arrive(journal: Reopened) -> None:
    fill(journal.store, 7)
    read, after, arriving = [], 0, 8
    while True:
        page = journal.store.read(after, 3)
        read += page.entries
        after = page.next
        if not page.more:
            break
        if arriving < 20:
            journal.store.append(entries(arriving))
            arriving += 1
    assert read == everything(journal.store)
    assert len(read) > 8


def test_a_page_that_is_read_again_has_what_was_appended_meanwhile(journal: Reopened) -> None:
    for last in range(1, SIZE):
        journal.store.append(entries(last))
        assert [position for position, _ in journal.store.read(0, 10).entries] == [*range(1, last + 1)]


def test_a_page_shows_whether_there_are_more_events(journal: Reopened) -> None:
    assert journal.store.read(0, 10) == ([], 0, False)
    fill(journal.store, 10)
    assert journal.store.read(0, 4) == (entries(1, 2, 3, 4), 4, True)
    assert journal.store.read(6, 4) == (entries(7, 8, 9, 10), 10, False)
    assert journal.store.read(10, 4) == ([], 10, False)
    assert journal.store.read(99, 4) == ([], 99, False)


def test_a_page_of_one_type_or_device_has_only_its_events(journal: Reopened) -> None:
    fill(journal.store, 10)
    assert journal.store.read(0, 10, kind="matched").entries == entries(3, 6, 9)
    assert journal.store.read(3, 1, kind="matched") == (entries(6), 6, True)
    for name in "cd":
        assert journal.store.read(0, 10, device=("x", name)).entries == entries(3, 6, 9)
    for name in "ab":
        assert journal.store.read(0, 3, device=("x", name)).entries == entries(1, 2, 4)
    assert journal.store.read(0, 10, device=("y", "a")) == ([], 10, False)


SPANS = [span("a", "b", 1, 0, [4]), span("c", "4", 2, 0, [4, 5]), span("e", "", 0, 0, [6])]


def test_a_page_shows_each_span_and_contains_a_batch_as_a_whole(journal: Reopened) -> None:
    batches = [(position, counted(position, *SPANS, app="x").fact) for position in (3, 4, 5, 6, 7)]
    journal.store.append([*entries(1, 2), *batches, claimed(8, Claim("c", "4", 2, 2), app="x")])
    flat = [(p, each) for p, fact in everything(journal.store) for each in shown(fact)]
    for store in (journal.store, journal.again()):
        read, after, more, pages = [], 0, True, 0
        while more:
            page = store.read(after, 4)
            read += page.entries
            after, more, pages = page.next, page.more, pages + 1
        assert read == flat
        assert pages == 4  # up to positions 3, 5, 7, 8
        assert [p for p, _ in store.read(2, 1).entries] == [3, 3, 3]
        assert [p for p, _ in store.read(0, 8, kind="delivered").entries] == [1, 2, 3, 3, 3, 4, 4, 4]
        assert [p for p, _ in store.read(0, 8, kind="claimed").entries] == [8]


def test_a_page_of_a_device_has_only_its_spans(journal: Reopened) -> None:
    batch = counted(3, *SPANS, app="x").fact
    journal.store.append([*entries(1), (3, batch), claimed(4, Claim("c", "4", 2, 2), app="x")])
    for store in (journal.store, journal.again()):
        assert [p for p, _ in store.read(0, 9, device=("x", "a")).entries] == [1, 3]
        # a size of a's span is spelled like this device
        assert [(p, f.kind) for p, f in store.read(0, 9, device=("x", "4")).entries] == [
            (3, "delivered"),
            (4, "claimed"),
        ]
        assert store.read(0, 9, device=("y", "4")).entries == []
        assert store.read(0, 9, device=("x", "")).entries == []
        assert [p for p, _ in store.read(0, 9, device=("x", "e")).entries] == [3]


def test_a_seal_names_the_devices_of_its_segment_whoever_made_it(journal: Reopened) -> None:
    batch = counted(3, *SPANS, app="x").fact
    journal.store.append([*entries(1, 2), (3, batch)])
    journal.again().append([claimed(4, Claim("g", "a", 2, 2), app="y"), *entries(5, 6, 7, 8)])
    keys = {segments.device_key("x", name) for name in "abcd4e"} | {
        segments.device_key("y", name) for name in "ga"
    }
    for _ in range(2):
        (file,) = journal.files("*.seal")
        seal = segments.decode_seal(file.read_bytes())
        assert seal is not None
        assert seal.devices == keys
        file.unlink()
        journal.again()


def test_a_page_ends_after_the_batch_that_makes_it_large(
    journal: Reopened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudmatch_journal.pages.MAX_SIZES", 5)
    journal.store.append([counted(p, span("a", "b", 1, 0, [4, 4, 4])) for p in (1, 2, 3)])
    assert journal.store.read(0, 100)[1:] == (2, True)
    assert journal.store.read(2, 100)[1:] == (3, False)


def test_a_segment_of_large_batches_is_full_before_it_has_all_events(
    journal: Reopened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudmatch_journal.store.MAX_SEGMENT", 300)
    spans = [span(f"device-{number}", "b", 1, 0, [4]) for number in range(10)]
    for position in (1, 2, 3):
        journal.store.append([counted(position, *spans)])
    assert len(journal.files("*.seal")) == 3
    assert [p for p, _ in journal.again().read(0, 100, device=("default", "device-7")).entries] == [1, 2, 3]


def test_a_full_segment_is_never_written_again(journal: Reopened) -> None:
    fill(journal.store, SIZE)
    (sealed,) = journal.files("*.jsonl")
    before = sealed.read_bytes(), sealed.stat().st_mtime_ns
    fill(journal.store, 3 * SIZE)
    fill(journal.again(), 4 * SIZE)
    assert (sealed.read_bytes(), sealed.stat().st_mtime_ns) == before


def test_an_event_is_written_once_however_long_the_journal_is(
    journal: Reopened, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    sync = os.fsync

    def counted(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().suffix)
        sync(handle)

    monkeypatch.setattr(os, "fsync", counted)
    journal.store.append(entries(1, 2))
    journal.store.append(entries(3))
    assert synced.count(".jsonl") == 2
    (segment,) = journal.files("*.jsonl")
    before = segment.read_bytes()
    journal.store.append(entries(4))
    assert segment.read_bytes().startswith(before)


@pytest.mark.parametrize("rubbish", [b'{"position":9,"ty', b"\0" * 100, b'{"position":9'])
def test_an_incomplete_last_line_is_truncated_and_written_again(journal: Reopened, rubbish: bytes) -> None:
    journal.store.append(entries(1, 2))
    (segment,) = journal.files("*.jsonl")
    with segment.open("ab") as file:
        file.write(rubbish)
    store = journal.again()
    assert store.position == 2
    store.append(entries(3, 4, 5))
    assert everything(journal.again()) == entries(1, 2, 3, 4, 5)


def test_a_segment_without_a_complete_line_is_removed(journal: Reopened) -> None:
    fill(journal.store, SIZE)
    journal.folder.joinpath("events-00000000000000000005.jsonl").write_bytes(b'{"posi')
    store = journal.again()
    store.append(entries(5))
    assert everything(store) == entries(1, 2, 3, 4, 5)


def test_a_crash_between_a_full_segment_and_its_seal_is_repaired(journal: Reopened) -> None:
    fill(journal.store, 2 * SIZE + 1)
    seals = journal.files("*.seal")
    before = [seal.read_bytes() for seal in seals]
    seals[0].unlink()
    seals[1].write_bytes(b"{")
    assert everything(journal.again()) == entries(*range(1, 2 * SIZE + 2))
    assert len(before) == len(journal.files("*.seal")) == 2


def test_a_failing_disk_stores_nothing_of_the_batch_and_the_next_attempt_all_of_it(
    journal: Reopened, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.store.append(entries(1))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            journal.store.append(entries(2, 3))
    assert everything(journal.store) == entries(1)
    assert journal.store.position == 1
    assert journal.store.append(entries(2, 3)) == 2
    assert everything(journal.again()) == entries(1, 2, 3)


def test_a_folder_is_open_in_one_journal_at_a_time(journal: Reopened) -> None:
    with pytest.raises(StoreError, match="in use"):
        Store(journal.folder, SIZE)


def test_a_saved_snapshot_is_loaded_unless_it_is_damaged(journal: Reopened) -> None:
    assert journal.store.load() is None
    journal.store.save(b"one")
    journal.store.save(b"two\nlines")
    assert journal.again().load() == b"two\nlines"
    state = journal.folder / "state.json"
    state.write_bytes(state.read_bytes()[:-1])
    assert journal.store.load() is None
    state.write_bytes(b"")
    assert journal.store.load() is None


def test_dropped_segments_are_gone_and_the_rest_is_unchanged(journal: Reopened) -> None:
    fill(journal.store, 4 * SIZE + 1)
    assert journal.store.first_position == 0
    before = journal.store.size
    journal.store.save(b"state")
    journal.store.drop_segments(2)
    for store in (journal.store, journal.again()):
        assert store.first_position == 2 * SIZE + 1
        assert store.position == 4 * SIZE + 1
        assert store.size == sum(f.stat().st_size for f in journal.files("*.jsonl")) < before
        assert everything(store) == entries(*range(2 * SIZE + 1, 4 * SIZE + 2))
        assert store.read(0, 3).entries == entries(9, 10, 11)
        assert store.read(0, 100, device=("x", "c")).entries == entries(9, 12, 15)
        assert store.load(BASE) == b"state"
    assert len(journal.files("*.seal")) == 2


def test_pages_continue_after_segments_dropped_meanwhile(journal: Reopened) -> None:
    fill(journal.store, 5 * SIZE)
    page = journal.store.read(0, 3)
    journal.store.drop_segments(1)
    journal.store.append(entries(21))
    assert journal.store.read(page.next, 3) == (entries(5, 6, 7), 7, True)
    journal.store.drop_segments(2)
    assert journal.store.read(7, 100).entries == entries(*range(13, 22))
    fill(journal.store, 8 * SIZE)
    assert journal.store.read(0, 100, device=("x", "c")).entries == entries(15, 18, 21, 24, 27, 30)


def test_a_device_named_only_in_dropped_segments_is_not_found(journal: Reopened) -> None:
    journal.store.append([(1, AmountReported(app="x", at=1, device="z", event_type="bytesSent", amount=1))])
    fill(journal.store, 3 * SIZE)
    journal.store.drop_segments(1)
    assert journal.store.read(0, 10, device=("x", "z")) == ([], 3 * SIZE, False)


def test_the_segment_of_the_last_event_is_never_droppable(journal: Reopened) -> None:
    fill(journal.store, 2 * SIZE)
    assert [seal.first for seal in journal.store.droppable] == [1]
    fill(journal.store, 2 * SIZE + 1)
    assert [seal.first for seal in journal.store.droppable] == [1, SIZE + 1]


@pytest.mark.parametrize("removed", ["seal", "nothing"])
def test_a_crash_while_segments_are_dropped_leaves_a_journal_in_order(
    journal: Reopened, removed: str
) -> None:
    fill(journal.store, 3 * SIZE + 1)
    journal.store.save(b"state", BASE)
    if removed == "seal":
        journal.files("*.seal")[0].unlink()
    store = journal.again()
    assert everything(store) == entries(*range(1, 3 * SIZE + 2))
    assert len(store.droppable) == 3
