"""Damaged files and folders are kept under another name, for whoever wants to look into them."""

import contextlib
from datetime import UTC, datetime
from pathlib import Path


def put_aside(first: Path, *others: Path) -> str:
    """Rename what exists of these; return the new name of the first one.

    Raises:
        OSError: it cannot be renamed.
    """
    mark = f".damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    for path in (first, *others):
        with contextlib.suppress(FileNotFoundError):
            path.rename(path.with_name(path.name + mark))
    return first.name + mark
