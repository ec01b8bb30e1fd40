"""The files in the journal's folder: written whole or not at all, read as they were sealed.

Reading takes no lock: a sealed segment never changes, the one that grows only grows, and what was not
written to its end is told from what was. So other processes may read while the journal writes.
"""

import os
from pathlib import Path

import msgspec

from cloudmatch_journal.core import segments
from cloudmatch_journal.core.segments import Document, Seal

STATE = "state.json"  # what is folded from all events
BASE = "base.json"  # the same, from those at least that were let go; there once any were


class StoreError(RuntimeError):
    """The folder cannot be used, or a file in it is damaged; the message names it."""


def write(path: Path, data: bytes) -> None:
    """Put a file there, whole or not at all."""
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync(path.parent)


def sync(folder: Path) -> None:
    """Return once the names in the folder are on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def firsts(folder: Path) -> list[int]:
    """Give the first position of each segment, ascending."""
    found = (segments.first_position(path.name) for path in folder.iterdir())
    return sorted(first for first in found if first is not None)


def segment(folder: Path, first: int) -> Path:
    """Give where the segment that begins with this position is."""
    return folder / segments.segment_name(first)


def seal(folder: Path, first: int) -> Seal | None:
    """Give the seal of a segment; None when it has none that can be read."""
    try:
        return msgspec.json.decode((folder / segments.seal_name(first)).read_bytes(), type=Seal)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def sealed(folder: Path, by: Seal) -> bytes:
    """Read a sealed segment.

    Raises:
        StoreError: it is missing or damaged.
    """
    path = segment(folder, by.first)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise StoreError(f"{path} is missing") from None
    if not segments.intact(data, by):
        raise damaged(path)
    return data


def remove(folder: Path, first: int) -> None:
    """Remove a segment; a crash within leaves it there, to be sealed and removed again."""
    (folder / segments.seal_name(first)).unlink(missing_ok=True)
    segment(folder, first).unlink(missing_ok=True)


def whole(folder: Path, first: int, by: Seal | None = None) -> tuple[list[Document], list[bytes]]:
    """Give what is whole in a segment: its documents, and each one's line.

    Raises:
        StoreError: it is not what its seal says.
        FileNotFoundError: it has been let go.
    """
    path = segment(folder, first)
    data = path.read_bytes()
    if by is not None and not segments.intact(data, by):
        raise damaged(path)
    documents, good = segments.whole(data)
    return documents, data[:good].splitlines(keepends=True)


def damaged(path: Path) -> StoreError:
    """Make the error that names a damaged segment."""
    return StoreError(f"{path} is damaged: it is not what its seal says")
