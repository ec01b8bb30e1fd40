"""Which payloads of a direction are counted: sets of their numbers, as ranges.

A set is a flat list: first, end, first, end, …; ascending, ends exclusive, no range adjacent to another.
"""

from bisect import bisect_left, bisect_right

Numbers = list[int]
Range = tuple[int, int]  # first, end


def missing(numbers: Numbers, first: int, end: int) -> list[Range]:
    """Return what of a range is not in a set."""
    found = []
    index = bisect_right(numbers, first)
    if index % 2:  # inside a range: go on at its end
        first = numbers[index]
        index += 1
    while first < end:
        if index == len(numbers):
            found.append((first, end))
            break
        found.append((first, min(end, numbers[index])))
        first = numbers[index + 1]
        index += 2
    return found


def add(numbers: Numbers, first: int, end: int) -> None:
    """Add a range to a set."""
    low, high = bisect_left(numbers, first), bisect_right(numbers, end)
    numbers[low:high] = [first] * (low % 2 == 0) + [end] * (high % 2 == 0)


def count_missing(numbers: Numbers, end: int) -> int:
    """Return how many numbers from 0 to `end - 1` are not in a set."""
    return sum(upto - first for first, upto in missing(numbers, 0, end))
