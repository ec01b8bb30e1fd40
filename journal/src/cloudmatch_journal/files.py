"""The files in the journal's folder: written atomically, read as they were sealed.

Reading needs no lock: a sealed segment never changes, the growing one only grows, and an incomplete last line
is recognized. So other processes may read while the journal writes.
"""

import os
from pathlib import Path

import msgspec

from cloudmatch_journal.core import segments
from cloudmatch_journal.core.segments import Document, Seal

STATE = "state.json"  # a snapshot folded from all events
BASE = "base.json"  # a snapshot that covers at least the dropped events; exists once any were dropped


class StoreError(RuntimeError):
    """The folder cannot be used, or a file in it is damaged; the message names it."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file completely or not at all."""
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
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
        return msgspec.json.decode((folder / segments.seal_name(first)).read_bytes(), type=Seal)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_seal(folder: Path, seal: Seal) -> None:
    """Write the seal of a segment."""
    write_atomically(folder / segments.seal_name(seal.first), msgspec.json.encode(seal))


def read_sealed(folder: Path, seal: Seal) -> bytes:
    """Read a sealed segment.

    Raises:
        StoreError: it is missing or damaged.
    """
    path = segment_path(folder, seal.first)
    try:
        return _read_intact(path, seal)
    except FileNotFoundError:
        raise StoreError(f"{path} is missing") from None


def read_complete(folder: Path, first: int, seal: Seal | None = None) -> tuple[list[Document], list[bytes]]:
    """Read the complete lines of a segment: their documents, and the lines themselves.

    Raises:
        StoreError: it is not as its seal describes it.
        FileNotFoundError: it has been dropped.
    """
    data = _read_intact(segment_path(folder, first), seal)
    documents, size = segments.complete_lines(data)
    return documents, data[:size].splitlines(keepends=True)


def remove_segment(folder: Path, first: int) -> None:
    """Remove a segment; after a crash in between it is still there, to be sealed and removed again."""
    (folder / segments.seal_name(first)).unlink(missing_ok=True)
    segment_path(folder, first).unlink(missing_ok=True)


def _read_intact(path: Path, seal: Seal | None) -> bytes:
    data = path.read_bytes()
    if seal is not None and not segments.is_intact(data, seal):
        raise StoreError(f"{path} is damaged: it does not match its seal")
    return data
