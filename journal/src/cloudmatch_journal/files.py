"""The files in the journal's folder: written atomically, read as they were sealed.

Reading needs no lock: a sealed segment never changes, the growing one only grows, and an incomplete last line
is recognized. So other processes may read while the journal writes.
"""

import contextlib
import logging
import os
import zlib
from pathlib import Path

from cloudmatch_journal.core import segments
from cloudmatch_journal.core.segments import Contents, Seal

log = logging.getLogger("files")

STATE = "state.json"  # a snapshot folded from all events
BASE = "base.json"  # a snapshot that covers at least the dropped events; exists once any were dropped


class StoreError(RuntimeError):
    """The folder cannot be used, or a file in it is damaged; the message names it."""


class FolderError(StoreError):
    """The folder is none, or may not be used: another must be set."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file completely or not at all."""
    new = path.with_suffix(".new")
    try:
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):  # it takes space where there may be none
            new.unlink()
        raise
    sync(path.parent)


def sync(folder: Path) -> None:
    """Return once the file names in the folder are on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def first_positions(folder: Path) -> list[int]:
    """Return the first position of each segment, ascending."""
    found = (segments.parse_segment_name(path.name) for path in folder.iterdir())
    return sorted(first for first in found if first is not None)


def segment_path(folder: Path, first: int) -> Path:
    """Return the path of the segment that begins with this position."""
    return folder / segments.segment_name(first)


def read_seal(folder: Path, first: int) -> Seal | None:
    """Read the seal of a segment; None if there is none or it is damaged."""
    try:
        return segments.decode_seal((folder / segments.seal_name(first)).read_bytes())
    except FileNotFoundError:
        return None


def write_seal(folder: Path, seal: Seal) -> None:
    """Write the seal of a segment."""
    write_atomically(folder / segments.seal_name(seal.first), segments.encode_seal(seal))


def write_sealed(folder: Path, data: bytes, seal: Seal) -> None:
    """Write a segment in place of one that is full, then its seal."""
    write_atomically(segment_path(folder, seal.first), data)
    write_seal(folder, seal)


def read_segment(folder: Path, seal: Seal) -> bytes:
    """Read the bytes of a sealed segment, whatever happened to it.

    Raises:
        StoreError: it is missing; or it is damaged, and so old that its lines have no checksums.
    """
    data = _read_segment(segment_path(folder, seal.first))
    if segments.is_intact(data[: seal.size], seal):
        return data[: seal.size]
    read_whole(folder, seal)
    return data


def _read_segment(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise StoreError(f"{path} is missing") from None


def read_sealed(folder: Path, seal: Seal) -> bytes:
    """Read a sealed segment that is as its seal describes it.

    Raises:
        StoreError: it is missing or damaged.
    """
    path = segment_path(folder, seal.first)
    data = _read_segment(path)[: seal.size]  # what a crash left behind that may still be there
    if seal.damaged or not segments.is_intact(data, seal):
        raise StoreError(f"{path} is damaged: it does not match its seal")
    return data


def read_whole(folder: Path, seal: Seal) -> Contents:
    """Read the whole lines of a sealed segment, whatever happened to it.

    Raises:
        StoreError: it is missing; or it is damaged, and so old that its lines have no checksums.
    """
    path = segment_path(folder, seal.first)
    data = _read_segment(path)
    contents = segments.read(data, seal.first, seal.last)
    if not segments.is_intact(data[: seal.size], seal):
        if any(line.after is None for line in contents.lines):
            raise StoreError(f"{path} is damaged: it does not match its seal")
        missing = seal.count - len(contents.lines)
        log.error("%s is damaged: it does not match its seal; %d of its events are missing", path, missing)
    return contents


def read_snapshot(folder: Path, name: str) -> bytes | None:
    """Read a snapshot; None if there is none.

    Raises:
        StoreError: it is damaged, or cannot be read.
    """
    path = folder / name
    try:
        check, _, snapshot = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    if check != b"%08x" % zlib.crc32(snapshot):
        raise StoreError(f"{path} is damaged")
    return snapshot


def write_snapshot(folder: Path, name: str, snapshot: bytes) -> None:
    """Write a snapshot, its CRC-32 before it."""
    write_atomically(folder / name, b"%08x\n%b" % (zlib.crc32(snapshot), snapshot))


def read_undamaged(folder: Path, first: int, seal: Seal | None) -> Contents:
    """Read a segment that may still grow.

    Raises:
        StoreError: it is damaged.
        FileNotFoundError: it has been dropped.
    """
    path = segment_path(folder, first)
    data = path.read_bytes()
    contents = segments.read(data, first)
    if contents.faults or (seal is not None and not segments.is_intact(data, seal)):
        raise StoreError(f"{path} is damaged: `journal verify` shows where")
    return contents


def set_aside(path: Path) -> None:
    """Rename a segment without a whole line, so that nobody reads it again; remove it if it is empty."""
    with contextlib.suppress(OSError):  # it is read again, and set aside, at the next start
        if path.stat().st_size:
            path.replace(path.with_suffix(".damaged"))
        else:
            path.unlink()


def remove_segment(folder: Path, first: int) -> None:
    """Remove a segment; after a crash in between it is still there, to be sealed and removed again."""
    (folder / segments.seal_name(first)).unlink(missing_ok=True)
    segment_path(folder, first).unlink(missing_ok=True)
