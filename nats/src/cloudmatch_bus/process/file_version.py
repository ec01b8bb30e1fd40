"""Whether a file has changed since it was read."""

from pathlib import Path


def file_version(file: Path) -> tuple[int, int, int]:
    """Return what differs between two versions of a file, however it was replaced.

    Raises:
        OSError: it cannot be found.
    """
    state = file.stat()
    return state.st_mtime_ns, state.st_ino, state.st_size
