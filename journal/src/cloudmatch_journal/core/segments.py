"""The form of the journal's files: segments of JSON lines, and the seal beside each full one.

A line is one document: the fact as it was published, and its position in the stream. A segment is named
by the position of its first document. It only grows, until it is full; then a seal is written beside it
that says what is in it, and it is never written again.
"""

import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from cloudmatch_bus.contract.messages import AnyFact

Document = dict[str, Any]

_NAME = re.compile(r"events-(\d{20})\.jsonl")


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """What a full segment holds."""

    first: int  # position
    last: int  # position
    count: int
    size: int  # bytes
    crc32: int
    newest: int  # ms since 1970; when the last of its events happened
    devices: frozenset[str]  # `name` of every device that a document names


def segment_name(first: int) -> str:
    """Name of the segment that begins with this position."""
    return f"events-{first:020d}.jsonl"


def seal_name(first: int) -> str:
    """Name of that segment's seal."""
    return f"events-{first:020d}.seal"


def first_position(file_name: str) -> int | None:
    """Position with which the segment of this name begins; None when it is no segment's name."""
    found = _NAME.fullmatch(file_name)
    return int(found[1]) if found else None


def document(position: int, fact: AnyFact) -> Document:
    """Give the document of a fact."""
    return {"position": position, **msgspec.to_builtins(fact)}


def fact(of: Document) -> AnyFact:
    """Give the fact of a document."""
    found: AnyFact = msgspec.convert(of, AnyFact)
    return found


def name(app: str, device: str) -> str:
    """One name for a device among all apps."""
    return msgspec.json.encode((app, device)).decode()


def devices(of: Document) -> set[str]:
    """Give the devices that a document names."""
    found = (of.get(field) for field in ("device", "peer", "sender", "receiver"))
    return {device for device in found if device is not None}


def names(of: Document) -> set[str]:
    """Give the `name`s of the devices that a document names."""
    return {name(of["app"], device) for device in devices(of)}


def lines(documents: Iterable[Document]) -> bytes:
    """Give these documents as a segment holds them."""
    return b"".join(msgspec.json.encode(d) + b"\n" for d in documents)


def whole(data: bytes) -> tuple[list[Document], int]:
    """Read a segment; give its documents and how many bytes of it are good.

    What was being written when the machine failed is no whole line: reading ends before it.
    """
    decode = msgspec.json.Decoder(Document).decode
    documents: list[Document] = []
    good = 0
    for line in data.split(b"\n")[:-1]:
        try:
            found = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            break
        if not isinstance(found.get("position"), int):
            break
        documents.append(found)
        good += len(line) + 1
    return documents, good


class _Position(msgspec.Struct):
    position: int


def entries(data: bytes) -> Iterator[tuple[int, AnyFact]]:
    """Give position and fact of each line of a segment that is whole: what `fact` gives, but quickly."""
    position = msgspec.json.Decoder(_Position).decode
    found = msgspec.json.Decoder(AnyFact).decode
    for line in data.split(b"\n")[:-1]:
        yield position(line).position, found(line)


def seal(documents: list[Document], data: bytes) -> Seal:
    """Make the seal of a segment that holds these documents, as `data`."""
    return Seal(
        first=documents[0]["position"],
        last=documents[-1]["position"],
        count=len(documents),
        size=len(data),
        crc32=zlib.crc32(data),
        newest=max(d["at"] for d in documents),
        devices=frozenset(each for d in documents for each in names(d)),
    )


def intact(data: bytes, by: Seal) -> bool:
    """Tell whether a segment is what its seal says."""
    return len(data) == by.size and zlib.crc32(data) == by.crc32
