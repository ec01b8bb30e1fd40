"""What a store reads of damaged files."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cloudmatch_journal.core import segments
from cloudmatch_journal.files import StoreError
from unit.journal.reopened import SIZE, Reopened, entries, everything, fill


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Reopened]:
    journal = Reopened(tmp_path / "journal")
    yield journal
    journal.store.close()


def test_of_a_damaged_segment_everything_whole_is_read_and_the_damage_is_named(
    journal: Reopened, caplog: pytest.LogCaptureFixture
) -> None:
    fill(journal.store, 2 * SIZE)
    first = journal.files("*.jsonl")[0]
    first.write_bytes(first.read_bytes().replace(b'"sizes":[1]', b'"sizes":[2]'))
    store = journal.again()
    assert everything(store) == entries(*range(2, 2 * SIZE + 1))
    assert store.read(0, 3).entries == entries(2, 3, 4)
    assert f"{first} is damaged: it does not match its seal; 1 of its events are missing" in caplog.text


def test_a_damaged_segment_of_an_earlier_version_is_refused(journal: Reopened) -> None:
    fill(journal.store, 2 * SIZE)
    first = journal.files("*.jsonl")[0]
    as_before = b"".join(segments.plain(line) + b"\n" for line in first.read_bytes().splitlines())
    seal = segments.make_seal([segments.to_document(*each) for each in entries(1, 2, 3, 4)], as_before, [])
    first.with_suffix(".seal").write_bytes(msgspec.json.encode(seal))
    first.write_bytes(as_before)
    assert everything(journal.again()) == entries(*range(1, 2 * SIZE + 1))
    first.write_bytes(as_before.replace(b'"sizes":[1]', b'"sizes":[2]'))
    store = journal.again()
    with pytest.raises(StoreError, match=first.name):
        store.read(0, 10)
    assert everything(store) == store.read(SIZE, 10).entries == entries(5, 6, 7, 8)


def test_a_sealed_segment_that_disappears_is_named(journal: Reopened) -> None:
    fill(journal.store, 2 * SIZE)
    store = journal.again()
    journal.files("*.jsonl")[0].unlink()
    with pytest.raises(StoreError, match="missing"):
        store.read(0, 10)
    assert everything(store) == entries(5, 6, 7, 8)


def test_a_byte_flipped_in_the_growing_segment_costs_one_event_and_is_named(
    journal: Reopened, caplog: pytest.LogCaptureFixture
) -> None:
    journal.store.append(entries(1, 2, 3))
    (segment,) = journal.files("*.jsonl")
    data = bytearray(segment.read_bytes())
    data[data.index(b'"position":2')] ^= 4
    segment.write_bytes(data)
    store = journal.again()
    assert everything(store) == entries(1, 3)
    assert (store.position, store.holes) == (3, [(1, 3)])
    assert f"{segment} is damaged: " in caplog.text
    store.append(entries(4, 5))
    assert everything(store) == everything(journal.again()) == entries(1, 3, 4, 5)
    assert segment.read_bytes().startswith(data)  # the damaged part is kept


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"rubbish\n" * 9])
def test_a_segment_without_anything_whole_is_set_aside(journal: Reopened, content: bytes) -> None:
    fill(journal.store, 2 * SIZE)
    first = journal.files("*.jsonl")[0]
    first.write_bytes(content)
    first.with_suffix(".seal").unlink()
    assert everything(journal.again()) == entries(5, 6, 7, 8)
    assert [path.read_bytes() for path in journal.files("*.damaged")] == ([content] if content else [])
