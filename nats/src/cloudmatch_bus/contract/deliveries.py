"""Sizes of delivered payloads, as facts carry them: one `Span` for each direction of a match.

A span says which payloads it counts, by their numbers, so that whoever adds spans up can tell one that comes
twice from one that is missing. Its totals are beside its sizes: most readers need only these, and `Totals`
decodes a span without looking at the sizes.

Sizes are text: decimals joined by commas, where ``64*3`` stands for ``64,64,64``.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from cloudmatch_bus.contract.bounds import Number

MAX_BYTES = 10**15  # of a span, exclusive: no payload has as many, and sums fit into 64 bits
MAX_PAYLOADS = 10**9  # of a span

Payloads = Annotated[int, Meta(ge=1, le=MAX_PAYLOADS)]
Bytes = Annotated[int, Meta(ge=0, lt=MAX_BYTES)]


class Span(msgspec.Struct, frozen=True, array_like=True):
    """Payloads of one direction of a match, in order: those numbered `first` to `first + payloads - 1`.

    In JSON an array. Fields are only appended, with defaults.
    """

    sender: str  # a device
    receiver: str  # a device; "": none, the amount was reported by REST
    match: Number  # 0: none
    first: Number  # number of the first payload in its direction, from 0
    payloads: Payloads
    bytes: Bytes
    sizes: str  # of each payload, in bytes (`encode_sizes`)

    @property
    def end(self) -> int:
        """Number after that of the last payload."""
        return self.first + self.payloads

    def each_size(self) -> Iterator[int]:
        """Yield the size of each payload."""
        return decode_sizes(self.sizes)


class Totals(msgspec.Struct, frozen=True, array_like=True):
    """A span without a look at its sizes."""

    sender: str
    receiver: str
    match: Number
    first: Number
    payloads: Payloads
    bytes: Bytes
    sizes: msgspec.Raw


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """Payloads that were delivered, whose sizes may have been counted or not.

    In JSON an array. Fields are only appended, with defaults.
    """

    sender: str
    receiver: str
    match: Number
    delivered: Number  # all payloads of the direction before this number were delivered
    span: Span | None = None  # the last of them, whose sizes are still known


def span(sender: str, receiver: str, match: int, first: int, sizes: Sequence[int]) -> Span:
    """Make the span of the payloads that begin with number `first` and have these sizes."""
    return Span(sender, receiver, match, first, len(sizes), sum(sizes), encode_sizes(sizes))


def encode_sizes(sizes: Sequence[int]) -> str:
    """Encode sizes as text: short and fast where all are equal, as they mostly are."""
    if len(sizes) > 1 and sizes.count(sizes[0]) == len(sizes):
        return f"{sizes[0]}*{len(sizes)}"
    return msgspec.json.encode(sizes)[1:-1].decode()


def even_sizes(payloads: int, total: int) -> str:
    """Encode sizes of which only number and sum are known: as equal as possible."""
    size, larger = divmod(total, payloads)
    runs = ((size, payloads - larger), (size + 1, larger))
    return ",".join(f"{each}*{count}" for each, count in runs if count)


def decode_sizes(text: str) -> Iterator[int]:
    """Yield each size.

    Raises:
        ValueError: the text is malformed.
    """
    for size, count in decode_runs(text):
        for _ in range(count):
            yield size


def decode_runs(text: str) -> Iterator[tuple[int, int]]:
    """Yield runs of equal sizes: the size, and how many payloads have it.

    Raises:
        ValueError: the text is malformed.
    """
    for run in text.split(",") if text else ():
        size, _, count = run.partition("*")
        each = int(size), int(count) if count else 1
        if not (0 <= each[0] < MAX_BYTES and 1 <= each[1] <= MAX_PAYLOADS):
            raise ValueError(f"no run of sizes: {run[:40]}")
        yield each
