"""The journal on a disk that is full, read-only or refuses."""

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudmatch_bus.client.isolation import DownstreamError
from cloudmatch_journal.core.retention import Retention
from cloudmatch_journal.files import FolderError
from cloudmatch_journal.journal import Journal
from cloudmatch_journal.store import Store
from unit.journal.samples import SIZE, payload

FULL = "No space left on device"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting needs root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


class Disk:
    """Refuses whatever changes files, with one error, while it is `broken`."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.broken: int | None = None
        for name in ("fsync", "replace", "ftruncate", "truncate", "mkdir"):
            self._refuse(patch, name)
        opened = os.open

        def guarded(path: object, flags: int, *rest: object, **options: object) -> int:
            if self.broken and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                raise OSError(self.broken, os.strerror(self.broken))
            return opened(path, flags, *rest, **options)  # type: ignore[arg-type, call-overload]

        patch.setattr(os, "open", guarded)
        path_open = Path.open

        def guarded_path(path: Path, mode: str = "r", **options: object) -> object:
            if self.broken and mode != "rb":
                raise OSError(self.broken, os.strerror(self.broken))
            return path_open(path, mode, **options)  # type: ignore[call-overload]

        patch.setattr(Path, "open", guarded_path)

    def _refuse(self, patch: pytest.MonkeyPatch, name: str) -> None:
        call = getattr(os, name)

        def guarded(*arguments: object, **options: object) -> object:
            if self.broken:
                raise OSError(self.broken, os.strerror(self.broken))
            return call(*arguments, **options)

        patch.setattr(os, name, guarded)


@contextlib.contextmanager
def opened(folder: Path, **limits: int) -> Iterator[Journal]:
    with contextlib.closing(Store(folder, SIZE)) as store:
        yield Journal(store, SIZE, Retention(**limits))


def fill_up(folder: Path) -> Path:
    """Fill the disk to its last byte."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return ballast


def sent(journal: Journal) -> int:
    state = journal.ledger.device("default", "a")
    return 0 if state is None else state.bytes_sent


def positions(journal: Journal) -> list[int]:
    return [position for position, _ in journal.store.read(0, 1000).entries]


async def test_a_journal_on_a_full_disk_serves_what_it_has_and_goes_on_when_there_is_space(
    small: Path,
) -> None:
    folder = small / "journal"
    with opened(folder) as journal:
        await journal.append([payload(position) for position in range(1, 7)])
    segment = folder / "events-00000000000000000001.jsonl"
    segment.write_bytes(segment.read_bytes() + b'{"crc":"')
    ballast = fill_up(small)
    with opened(folder) as journal:
        assert (positions(journal), sent(journal)) == ([1, 2, 3, 4, 5, 6], 24)
        with pytest.raises(DownstreamError, match=FULL):
            await journal.append([payload(position) for position in range(7, 100)])
        assert journal.store.problem == f"cannot write to {folder}: {FULL}"
        assert (positions(journal), sent(journal)) == ([1, 2, 3, 4, 5, 6], 24)
        ballast.unlink()
        await journal.append([payload(position) for position in range(7, 100)])
        assert journal.store.problem is None
    with opened(folder) as journal:
        assert (positions(journal), sent(journal)) == ([*range(1, 100)], 396)


async def test_on_a_full_disk_the_retention_makes_the_space_that_events_need(small: Path) -> None:
    with opened(small / "journal") as journal:
        for position in range(1, 150):
            await journal.append([payload(position)])
    fill_up(small)
    with opened(small / "journal", size=5_000) as journal:
        for position in range(150, 400):
            with contextlib.suppress(DownstreamError):
                await journal.append([payload(position)])
                continue
            await journal.append([payload(position)])  # as it is delivered again
        assert journal.store.size < 10_000
        assert sent(journal) == 4 * 399
    with opened(small / "journal") as journal:
        assert sent(journal) == 4 * 399


@pytest.mark.parametrize("refusal", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("tail", [b"", b'{"crc":"00', b"\0" * 9])
async def test_a_disk_that_refuses_costs_no_event_and_is_said_in_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    refusal: int,
    tail: bytes,
) -> None:
    disk = Disk(monkeypatch)
    with opened(tmp_path) as journal:
        for position in range(1, 2 * SIZE + 1):
            await journal.append([payload(position)])
    segment = tmp_path / "events-00000000000000000005.jsonl"
    segment.with_suffix(".seal").unlink()
    segment.write_bytes(segment.read_bytes() + tail)
    disk.broken = refusal
    caplog.clear()
    with opened(tmp_path) as journal:
        said = f"cannot write to {tmp_path}: {os.strerror(refusal)}"
        assert journal.store.problem == said
        assert positions(journal) == [*range(1, 2 * SIZE + 1)]
        for _ in range(3):
            with pytest.raises(DownstreamError, match=os.strerror(refusal)):
                await journal.append([payload(9), payload(10)])
        journal.save()
        assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [said]
        assert sent(journal) == 4 * 2 * SIZE
        disk.broken = None
        await journal.append([payload(9), payload(10)])
        assert journal.store.problem is None
    with opened(tmp_path) as journal:
        assert (positions(journal), sent(journal)) == ([*range(1, 11)], 40)


async def test_a_disk_that_refuses_in_the_middle_of_a_batch_leaves_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    with opened(tmp_path) as journal:
        await journal.append([payload(1)])
        disk.broken = errno.EIO
        with pytest.raises(DownstreamError):
            await journal.append([payload(2)])  # written, and neither synced nor removed
        disk.broken = None
        await journal.append([payload(2), payload(3)])
    with opened(tmp_path) as journal:
        assert positions(journal) == [1, 2, 3]


async def test_house_is_kept_by_trying_a_disk_that_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    with opened(tmp_path) as journal:
        await journal.append([payload(1)])
        disk.broken = errno.EROFS
        journal.save()
        assert journal.store.problem
        journal.try_disk()
        assert journal.store.problem
        disk.broken = None
        journal.try_disk()
        assert journal.store.problem is None


def test_a_folder_that_cannot_be_used_is_refused_with_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    for folder in (file, file / "journal"):
        with pytest.raises(FolderError, match="is not a folder"):
            Store(folder, SIZE)
