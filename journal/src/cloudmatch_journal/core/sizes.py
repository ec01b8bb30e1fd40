"""Sizes of a span as runs of equal ones: whatever its text says, they add up to its totals."""

from collections.abc import Iterator
from itertools import chain, repeat

from cloudmatch_bus.contract.deliveries import Span, even_sizes

Run = tuple[int, int]  # size in bytes, number of payloads


def runs(span: Span) -> list[Run]:
    """Return the sizes of a span, evened out if its text does not add up to its totals."""
    try:
        found = _decode(span.sizes)
    except ValueError:
        found = []
    if sum(count for _, count in found) != span.payloads or total(found) != span.bytes:
        return _decode(even_sizes(span.payloads, span.bytes))
    return found


def total(some: list[Run]) -> int:
    """Return the sum of sizes."""
    return sum(size * count for size, count in some)


def part(span: Span, first: int, end: int) -> Span:
    """Return the span of the payloads `first` to `end - 1` of this one."""
    cut = list(_cut(runs(span), first - span.first, end - span.first))
    text = ",".join(str(size) if count == 1 else f"{size}*{count}" for size, count in cut)
    return Span(span.sender, span.receiver, span.match, first, end - first, total(cut), text)


def known_sizes(span: Span, most: int) -> list[int]:
    """Return the size of each payload, of the first `most` at most."""
    each = (repeat(size, count) for size, count in _cut(runs(span), 0, most))
    return list(chain.from_iterable(each))


def _cut(some: list[Run], first: int, end: int) -> Iterator[Run]:
    """Yield the runs of the payloads `first` to `end - 1`."""
    begin = 0
    for size, count in some:
        left = min(begin + count, end) - max(begin, first)
        if left > 0:
            yield size, left
        begin += count


def _decode(text: str) -> list[Run]:
    """Decode text.

    Raises:
        ValueError: it is malformed.
    """
    found = []
    for run in text.split(","):
        size, _, count = run.partition("*")
        found.append((int(size), int(count or 1)))
    if min(chain.from_iterable(found)) < 0:
        raise ValueError(f"negative: {text}")
    return found
