"""Shapes of load, written as a few characters."""

import re
from typing import NamedTuple

SMALLEST, LARGEST = 24, 60_000  # bytes of a payload
GRAMMAR = re.compile(
    r"(?P<pairs>\d+)(?:x(?P<window>\d+)|@(?P<rate>\d+)):(?P<size>\d+)(?P<both>\+both)?", re.ASCII
)


class ShapeError(ValueError):
    """A shape is malformed, or out of range."""


class Shape(NamedTuple):
    """Pairs of devices, each with `window` payloads in flight or sending `rate`/s in total."""

    pairs: int
    window: int  # 0: open loop
    rate: int  # payloads/s in total; 0: closed loop
    size: int  # bytes of a payload
    both_ways: bool = False

    def __str__(self) -> str:
        how = f"x{self.window}" if self.window else f"@{self.rate}"
        return f"{self.pairs}{how}:{self.size}{'+both' if self.both_ways else ''}"

    @property
    def title(self) -> str:
        """The shape in words, for tables."""
        size = f"{self.size // 1024} KiB" if self.size % 1024 == 0 else f"{self.size} B"
        how = f"× {self.window}" if self.window else f"at {self.rate:,}/s"
        return f"{self.pairs} {how}, {size}{', both ways' if self.both_ways else ''}"

    @property
    def options(self) -> list[str]:
        """The shape as options of the generator."""
        how = ["--window", str(self.window)] if self.window else ["--rate", str(self.rate)]
        both = ["--both-ways"] if self.both_ways else []
        return ["--pairs", str(self.pairs), *how, "--size", str(self.size), *both]


def parse(text: str) -> Shape:
    """Parse a shape: ``50x64:1024`` is 50 pairs × 64 in flight of 1024 bytes, ``50@20000:64`` an open loop.

    Raises:
        ShapeError: the message gives the reason.
    """
    found = GRAMMAR.fullmatch(text)
    if found is None:
        raise ShapeError(
            f"{text!r} is not a shape: write PAIRSxWINDOW:SIZE or PAIRS@RATE:SIZE, optionally with +both"
        )
    numbers = {name: int(found[name] or 0) for name in ("pairs", "window", "rate", "size")}
    shape = Shape(**numbers, both_ways=found["both"] is not None)
    if not shape.pairs or not (shape.window or shape.rate):
        raise ShapeError(f"{text!r} would send nothing")
    if not SMALLEST <= shape.size <= LARGEST:
        raise ShapeError(f"{text!r}: a payload has {SMALLEST} to {LARGEST} bytes")
    return shape


RELAY = tuple(map(parse, ("50x64:64", "50x64:1024", "50x8:64", "50x1:64", "1x1:64", "50@20000:64")))
