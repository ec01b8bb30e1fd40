"""In which segments each device is named, so that a device's events are found without a scan."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence


class DeviceIndex:
    """Device key → numbers of the segments that name it, ascending: a newer segment has a larger number."""

    def __init__(self) -> None:
        self._segments: dict[str, array[int]] = {}

    def add(self, keys: Iterable[str], segment: int) -> None:
        """Record that a segment, the newest so far, names these devices."""
        for key in keys:
            numbers = self._segments.setdefault(key, array("L"))
            if not numbers or numbers[-1] != segment:
                numbers.append(segment)

    def segments(self, key: str, first: int) -> Sequence[int]:
        """Return the numbers of the segments from `first` on that name a device."""
        numbers = self._segments.get(key, array("L"))
        return numbers[bisect_left(numbers, first) :]

    def rename(self, key: str, name: str, end: int) -> None:
        """Give a device another key in the segments before `end`."""
        numbers = self._segments.get(key, array("L"))
        before = bisect_left(numbers, end)
        if before:
            self._segments[name] = numbers[:before]
            del numbers[:before]
            if not numbers:
                del self._segments[key]

    def drop(self, first: int, keys: Iterable[str] | None = None) -> None:
        """Remove the segments before `first` from the entries of these devices; None: of all devices."""
        for key in list(self._segments) if keys is None else keys:
            numbers = self._segments.get(key, array("L"))
            del numbers[: bisect_left(numbers, first)]
            if not numbers:
                self._segments.pop(key, None)
