"""The file format: segments of JSON lines, and the seal beside each full one.

A line is one document: a fact as it was published, and its position in the stream. A segment is named after
the position of its first document. It only grows until it is full; then a seal that describes it is written
beside it, and the segment is never written again.
"""

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypedDict, get_args

import msgspec

from cloudmatch_bus.contract.messages import (
    AnyFact,
    DeliveriesClaimed,
    DeliveriesCounted,
    decode_fact,
    encode,
)

Document = dict[str, Any]  # what a batch is about, `spans` and `claims`, is undecoded JSON (`msgspec.Raw`)

BATCHES = {str(each.__struct_config__.tag) for each in (DeliveriesCounted, DeliveriesClaimed)}  # types

_FIELDS = {field.encode_name for each in get_args(AnyFact) for field in msgspec.structs.fields(each)}
_Line = TypedDict(  # type: ignore[misc]  # all fields of all facts; batches stay small in memory
    "_Line",
    dict.fromkeys(("position", "type", *_FIELDS), Any) | {"spans": msgspec.Raw, "claims": msgspec.Raw},
    total=False,
)
_decode_line: Callable[[bytes], Document] = msgspec.json.Decoder(_Line).decode  # type: ignore[assignment]


class _Ends(msgspec.Struct, frozen=True, array_like=True):
    """A span or a claim."""

    sender: str
    receiver: str  # "": none


_decode_ends = msgspec.json.Decoder(list[_Ends]).decode

_NAME = re.compile(r"events-(\d{20})\.jsonl")


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """What a full segment contains."""

    first: int  # position
    last: int  # position
    count: int
    size: int  # bytes
    crc32: int
    newest: int  # ms since 1970; time of its newest event
    devices: frozenset[str]  # `device_key` of every device named in it


def segment_name(first: int) -> str:
    """Return the file name of the segment that begins with this position."""
    return f"events-{first:020d}.jsonl"


def seal_name(first: int) -> str:
    """Return the file name of that segment's seal."""
    return f"events-{first:020d}.seal"


def parse_segment_name(file_name: str) -> int | None:
    """Return the position with which the segment of this name begins; None for any other file."""
    found = _NAME.fullmatch(file_name)
    return int(found[1]) if found else None


def to_document(position: int, fact: AnyFact) -> Document:
    """Convert a fact to its document."""
    return {"position": position, **_decode_line(encode(fact))}


def to_fact(document: Document) -> AnyFact:
    """Convert a document to its fact."""
    return decode_fact(encode(document))


def device_key(app: str, device: str) -> str:
    """Return the key of a device, unique among all apps."""
    return msgspec.json.encode((app, device)).decode()


def types(kind: str) -> tuple[str, ...]:
    """Return the types of the documents that are shown as events of type `kind`."""
    return ("delivered", "deliveries") if kind == "delivered" else (kind,)


def devices(document: Document) -> set[str]:
    """Return the devices named in a document."""
    found = {document.get(field) for field in ("device", "peer", "sender", "receiver")}
    for batch in ("spans", "claims"):
        for ends in _decode_ends(document[batch]) if batch in document else ():
            found.update((ends.sender, ends.receiver))
    return {device for device in found if device}


def named(fact: AnyFact) -> set[str]:
    """Return the devices named in a fact."""
    if isinstance(fact, DeliveriesCounted):
        found = {span.sender for span in fact.spans} | {span.receiver for span in fact.spans}
        found.discard("")
        return found
    return set(fact.devices)


def encode_lines(documents: Iterable[Document]) -> bytes:
    """Encode documents as the lines of a segment."""
    return b"".join(msgspec.json.encode(d) + b"\n" for d in documents)


def complete_lines(data: bytes) -> tuple[list[Document], int]:
    """Decode a segment up to its first incomplete line; return the documents, and how many bytes they take.

    A crash leaves whatever was being written at that moment as an incomplete last line.
    """
    documents: list[Document] = []
    size = 0
    for line in data.split(b"\n")[:-1]:
        try:
            document = _decode_line(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            break
        if not isinstance(document.get("position"), int):
            break
        documents.append(document)
        size += len(line) + 1
    return documents, size


class _Position(msgspec.Struct):
    position: int


def decode_entries(data: bytes) -> Iterator[tuple[int, AnyFact]]:
    """Yield position and fact of each line of an intact segment: faster than by documents."""
    decode_position = msgspec.json.Decoder(_Position).decode
    decode_fact = msgspec.json.Decoder(AnyFact).decode
    for line in data.split(b"\n")[:-1]:
        yield decode_position(line).position, decode_fact(line)


def make_seal(documents: list[Document], data: bytes, keys: Iterable[str]) -> Seal:
    """Create the seal of a segment that consists of these documents, encoded as `data`.

    Args:
        keys: of all devices named in them.
    """
    return Seal(
        first=documents[0]["position"],
        last=documents[-1]["position"],
        count=len(documents),
        size=len(data),
        crc32=zlib.crc32(data),
        newest=max(d["at"] for d in documents),
        devices=frozenset(keys),
    )


def is_intact(data: bytes, seal: Seal) -> bool:
    """Whether a segment is as its seal describes it."""
    return len(data) == seal.size and zlib.crc32(data) == seal.crc32
