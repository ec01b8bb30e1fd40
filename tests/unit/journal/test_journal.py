"""Store and ledger in step, without a bus."""

import contextlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloudmatch_bus.client.isolation import DownstreamError
from cloudmatch_bus.contract.messages import AnyFact
from cloudmatch_journal.core.ledger import Ledger
from cloudmatch_journal.core.retention import DAY, Retention
from cloudmatch_journal.journal import Journal
from cloudmatch_journal.store import Store
from unit.journal.samples import SIZE, payload


def sent(journal: Journal) -> int:
    state = journal.ledger.device("default", "a")
    assert state is not None
    return state.bytes_sent


async def fill(journal: Journal, last: int) -> None:
    for position in range(1, last + 1):
        await journal.append([payload(position)])


def age(journal: Journal) -> None:
    """Let all that can be dropped expire."""
    journal.store.newest = 10 * DAY
    for _ in range(9):
        journal.look_at_age(10 * DAY)


async def test_a_repeated_batch_changes_nothing(journal: Journal) -> None:
    await journal.append([payload(1), payload(2)])
    await journal.append([payload(2), payload(3)])
    assert sent(journal) == 12


async def test_a_batch_stored_before_a_failure_is_folded_when_it_is_redelivered(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = journal.store.append

    def append_and_fail(batch: Any) -> int:
        append(batch)
        raise OSError("no space for the seal")

    with monkeypatch.context() as patch:
        patch.setattr(journal.store, "append", append_and_fail)
        with pytest.raises(DownstreamError, match="no space"):
            await journal.append([payload(1)])
    await journal.append([payload(1)])
    assert sent(journal) == 4


async def test_an_event_that_cannot_be_folded_is_kept_and_ends_neither_journal_nor_restart(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fold = Ledger.fold

    def fold_or_fail(ledger: Ledger, position: int, fact: AnyFact) -> bool:
        done = fold(ledger, position, msgspec.structs.replace(fact, sizes=[]) if position == 2 else fact)
        if position == 2:
            raise RecursionError
        return done

    monkeypatch.setattr(Ledger, "fold", fold_or_fail)
    journal = Journal(store, SIZE)
    await journal.append([payload(1), payload(2), payload(3)])
    assert sent(journal) == 8
    assert "event at position 2 cannot be folded" in caplog.text
    assert sent(Journal(store, SIZE)) == 8
    assert len(list(store.replay(0))) == 3


@pytest.mark.parametrize("state", ["saved", "missing", "damaged", "of other rules"])
async def test_the_ledger_is_the_same_after_a_restart_whatever_happened_to_the_snapshot(
    journal: Journal, store: Store, tmp_path: Path, state: str
) -> None:
    for position in range(1, 21):
        await journal.append([payload(position)])
    saved = tmp_path / "state.json"
    assert saved.exists()  # it is saved regularly
    match state:
        case "missing":
            saved.unlink()
        case "damaged":
            saved.write_bytes(saved.read_bytes()[:-2] + b"!!")
        case "of other rules":
            store.save(journal.ledger.encode().replace(b'"version":3', b'"version":0'))
    again = Journal(store, SIZE)
    assert (sent(again), again.ledger.position) == (80, 20)


async def test_events_that_only_the_snapshot_knows_are_stored_when_they_come_again_and_count_once(
    tmp_path: Path,
) -> None:
    with contextlib.closing(Store(tmp_path / "journal", SIZE)) as store:
        journal = Journal(store, SIZE)
        await fill(journal, 6)
        journal.save()
    segment = tmp_path / "journal" / "events-00000000000000000005.jsonl"
    segment.write_bytes(segment.read_bytes()[:-1])
    with contextlib.closing(Store(tmp_path / "journal", SIZE)) as store:
        journal = Journal(store, SIZE)
        assert (store.position, journal.ledger.position) == (5, 6)
        await fill(journal, 7)
        assert (store.position, sent(journal)) == (7, 28)


async def test_a_start_folds_only_the_events_after_the_snapshot(
    journal: Journal, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await journal.append([payload(position) for position in range(1, 11)])
    journal.save()
    await journal.append([payload(11), payload(12)])
    with caplog.at_level("INFO"):
        Journal(store, SIZE)
    assert "2 events after position 10" in caplog.text


async def test_the_ledger_survives_the_events_that_were_dropped(store: Store, tmp_path: Path) -> None:
    journal = Journal(store, SIZE, Retention(days=1))
    await fill(journal, 10)
    age(journal)
    assert (store.first_position, sent(journal)) == (9, 40)
    for state in ("as it is", "missing", "damaged"):
        saved = tmp_path / "state.json"
        if state == "missing":
            saved.unlink(missing_ok=True)
        elif state == "damaged":
            saved.write_bytes(b"rubbish")
        again = Journal(store, SIZE)
        assert (sent(again), again.ledger.position) == (40, 10)
        assert again.ledger.match(7) is not None  # it is still running


async def test_a_lost_base_is_saved_again_from_the_state(store: Store, tmp_path: Path) -> None:
    journal = Journal(store, SIZE, Retention(days=1))
    await fill(journal, 10)
    age(journal)
    journal.save()
    tmp_path.joinpath("base.json").write_bytes(b"rubbish")
    Journal(store, SIZE)
    tmp_path.joinpath("state.json").unlink()
    assert sent(Journal(store, SIZE)) == 40


@pytest.mark.parametrize("state", ["missing", "older"])
async def test_a_journal_whose_snapshots_do_not_cover_dropped_events_counts_from_there_on_and_says_so(
    store: Store, tmp_path: Path, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(store, SIZE, Retention(days=1))
    await fill(journal, 3)
    journal.save()
    older = tmp_path.joinpath("state.json").read_bytes()
    await fill(journal, 10)
    age(journal)
    tmp_path.joinpath("base.json").write_bytes(b"rubbish")
    if state == "missing":
        tmp_path.joinpath("state.json").unlink()
    else:
        tmp_path.joinpath("state.json").write_bytes(older)
    assert sent(Journal(store, SIZE)) == 8
    assert "before position 9 were dropped" in caplog.text
    caplog.clear()
    assert sent(Journal(store, SIZE)) == 8
    assert caplog.text == ""


async def test_segments_are_dropped_as_events_arrive(store: Store) -> None:
    journal = Journal(store, SIZE, Retention(size=1000))
    await fill(journal, 200)
    assert store.first_position > 1
    assert store.size < 1000 + 2 * SIZE * 120  # until the next snapshot there may be more
    assert sent(journal) == 800


async def test_a_clock_that_is_ahead_of_all_events_drops_nothing(store: Store) -> None:
    journal = Journal(store, SIZE, Retention(days=1))
    await fill(journal, 10)
    for _ in range(9):
        journal.look_at_age(10 * DAY)
    assert store.first_position == 0


def full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


async def test_on_a_full_disk_the_retention_frees_what_the_last_snapshot_covers(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(store, SIZE)
    await fill(journal, 9)
    journal.save()
    with monkeypatch.context() as patch:
        patch.setattr(store, "save", full_disk)
        await fill(journal, 30)
        full = Journal(store, SIZE, Retention(size=1))
        full.apply_retention()
        assert (store.first_position, sent(full)) == (9, 120)
        full.apply_retention()  # the rest needs a snapshot, which needs space
        assert store.first_position == 9
        assert sent(Journal(store, SIZE)) == 120
    full.apply_retention()
    assert (store.first_position, sent(full), sent(Journal(store, SIZE))) == (29, 120, 120)


async def test_a_snapshot_that_is_of_no_use_never_becomes_the_base(store: Store, tmp_path: Path) -> None:
    await fill(Journal(store, SIZE, Retention(size=1)), 30)
    tmp_path.joinpath("state.json").write_bytes(b"rubbish")
    again = Journal(store, SIZE)
    store.drop_segments(0)
    assert sent(again) == sent(Journal(store, SIZE)) == 120
    assert tmp_path.joinpath("state.ignored").read_bytes() == b"rubbish"
