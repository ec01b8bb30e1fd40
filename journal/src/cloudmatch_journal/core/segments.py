"""The file format: segments of JSON lines, and the seal beside each full one.

A line is one document: a fact as it was published, and its position. Before it stand the CRC-32 of the rest
of the line, and `after`, the position of the event before it, in whatever segment: so changed and missing
lines are found. (Lines of earlier versions have neither.) A segment is named after the position of its first
document. It only grows until it is full; then a seal that describes it is written beside it, and the segment
is never written again.
"""

import contextlib
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypedDict, get_args

import msgspec

from cloudmatch_bus.contract.messages import (
    AnyFact,
    DeliveriesClaimed,
    DeliveriesCounted,
    decode_fact,
    encode,
)
from cloudmatch_bus.contract.unreadable import UNREADABLE
from cloudmatch_journal.core.erasure import Erasure, erased

Document = dict[str, Any]  # what a batch is about, `spans` and `claims`, is undecoded JSON (`msgspec.Raw`)

BATCHES = {str(each.__struct_config__.tag) for each in (DeliveriesCounted, DeliveriesClaimed)}  # types

_OWN = {"crc", "after", "position", "offset"}  # fields of a line that are not its fact's
_FIELDS = {field.encode_name for each in get_args(AnyFact) for field in msgspec.structs.fields(each)}
_Line = TypedDict(  # type: ignore[misc]  # all fields of all facts; batches stay small in memory
    "_Line",
    dict.fromkeys(("position", "offset", "type", *_FIELDS), Any)
    | {"spans": msgspec.Raw, "claims": msgspec.Raw},
    total=False,
)
_decode_line: Callable[[bytes], Document] = msgspec.json.Decoder(_Line).decode  # type: ignore[assignment]


class _Ends(msgspec.Struct, frozen=True, array_like=True):
    """A span or a claim."""

    sender: str
    receiver: str  # "": none


_decode_ends = msgspec.json.Decoder(list[_Ends]).decode

_NAME = re.compile(r"events-(\d{20})\.jsonl")
_CHECKED = re.compile(rb'\{"crc":"([0-9a-f]{8})",')  # how a line begins
_UNCHECKED = b'{"position":'  # how a line of earlier versions begins
_PIECE = re.compile(rb"[^\n]*\n|[^\n]+")
_BEGIN = re.compile(rb'(?=\{"crc":")')


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """What a full segment contains."""

    first: int  # position
    last: int  # position
    count: int
    size: int  # bytes
    crc32: int
    newest: int  # ms since 1970; time of its newest event
    devices: frozenset[str]  # `device_key` of every device named in it
    damaged: int = 0  # parts between its lines that are no lines
    offset: int = 0  # between the last position and its sequence in the stream


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


def to_document(position: int, fact: AnyFact, offset: int = 0) -> Document:
    """Convert a fact to its document.

    Args:
        offset: between its position and its sequence in the stream.
    """
    document: Document = {"position": position, "offset": offset} if offset else {"position": position}
    return document | _decode_line(encode(fact))


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


def encode_lines(documents: Iterable[Document], after: int) -> bytes:
    """Encode documents as the lines of a segment, behind the event at position `after`."""
    lines = []
    for document in documents:
        rest = b'"after":%d,%b' % (after, msgspec.json.encode(document)[1:])
        lines.append(b'{"crc":"%08x",%b\n' % (zlib.crc32(rest), rest))
        after = document["position"]
    return b"".join(lines)


def plain(line: bytes) -> bytes:
    """Return a whole line as JSON of its document alone."""
    begin = line.find(_UNCHECKED[1:])
    return b"{" + line[begin:]


class _Position(msgspec.Struct):
    position: int


class _Place(_Position):
    after: int | None = None
    offset: int = 0


_decode_place = msgspec.json.Decoder(_Place).decode


class Line(NamedTuple):
    """A whole line of a segment."""

    position: int
    after: int | None  # position of the event before it; None: a line of an earlier version does not tell
    data: bytes
    offset: int = 0  # between its position and its sequence in the stream


class Part(NamedTuple):
    """A part of a segment that is no whole line."""

    offset: int
    size: int
    after: int  # position of the line before it, or the one before the segment's first


class Contents(NamedTuple):
    """What can be read of a segment."""

    found: list[Line]  # in the order of the file
    damaged: list[Part]
    size: int  # bytes before what a crash left incomplete at the end

    @property
    def lines(self) -> list[Line]:
        """The lines by position, each once."""
        return sorted({line.position: line for line in reversed(self.found)}.values())

    @property
    def documents(self) -> list[Document]:
        """The documents of the lines."""
        return [_decode_line(line.data) for line in self.lines]

    @property
    def entries(self) -> list[tuple[int, AnyFact]]:
        """Position and fact of each line."""
        return [(line.position, decode_fact(line.data)) for line in self.lines]

    @property
    def faults(self) -> int:
        """How many parts are damaged or not in their place."""
        positions = [line.position for line in self.found]
        return len(self.damaged) + sum(one >= two for one, two in pairwise(positions))

    def holes(self, last: int) -> list[tuple[int, int]]:
        """Return after and before which positions lines are missing.

        Args:
            last: position before this segment; 0: whatever its first line says.
        """
        found = []
        for line in self.lines:
            if line.after is not None and 0 < last < line.after:
                found.append((last, line.position))
            last = line.position
        return found


def read(data: bytes, first: int, last: float = math.inf) -> Contents:
    """Read a segment with positions from `first` to `last`, whatever happened to it.

    A crash leaves whatever was being written at that moment as an incomplete end: what has nothing whole
    behind it. Anything else that is no whole line is damage.
    """
    found: list[Line] = []
    damaged = []
    offset = size = 0
    for piece in _pieces(data):
        end = offset + len(piece)
        line = _whole(piece)
        if line is None or not first <= line.position <= last:
            damaged.append(Part(offset, len(piece), found[-1].position if found else first - 1))
        else:
            found.append(line)
            size = end
            if not piece.endswith(b"\n"):
                damaged.append(Part(end - 1, 1, line.position))
        offset = end
    return Contents(found, [part for part in damaged if part.offset < size], size)


def _pieces(data: bytes) -> Iterator[bytes]:
    """Yield all of a segment in pieces, each a line or no part of one, whatever stands between two lines."""
    for piece in _PIECE.findall(data):
        yield from filter(None, _BEGIN.split(piece))


def _whole(piece: bytes) -> Line | None:
    """Return the line that a piece is, perhaps with another byte for its newline; None if it is none."""
    data = piece[:-1]
    if begin := _CHECKED.match(data):
        if int(begin[1], 16) != zlib.crc32(data[begin.end() :]):
            return None
    elif not (data.startswith(_UNCHECKED) and piece.endswith(b"\n")):
        return None
    try:
        place = _decode_place(data)
        decode_fact(data)
    except UNREADABLE:
        return None
    return Line(place.position, place.after, data, place.offset)


def erase(data: bytes, first: int, last: float, erasures: Sequence[Erasure]) -> bytes:
    """Return a segment from which devices are erased; what is no whole line stays as it is."""
    spelled = [msgspec.json.encode(each.device) for each in erasures]
    kept = []
    for piece in _pieces(data):
        if any(name in piece for name in spelled):
            line = _whole(piece)
            if line is not None and first <= line.position <= last:
                kept.append(_erase_line(line, erasures) + piece[-1:])
                continue
        kept.append(piece)
    return b"".join(kept)


def _erase_line(line: Line, erasures: Sequence[Erasure]) -> bytes:
    fact = erased(line.position, decode_fact(line.data), erasures)
    document = to_document(line.position, fact, line.offset)
    if line.after is None:
        return msgspec.json.encode(document)
    return encode_lines([document], line.after)[:-1]


def keys(documents: Iterable[Document]) -> frozenset[str]:
    """Return the keys of all devices named in documents."""
    return frozenset(device_key(d["app"], device) for d in documents for device in devices(d))


def decode_documents(data: bytes) -> list[Document]:
    """Return the documents of an intact segment: faster than by its contents."""
    return [_decode_line(line) for line in data.split(b"\n")[:-1]]


def decode_entries(data: bytes) -> Iterator[tuple[int, AnyFact]]:
    """Yield position and fact of each line of an intact segment: faster than by its contents."""
    decode_position = msgspec.json.Decoder(_Position).decode
    decode_fact = msgspec.json.Decoder(AnyFact).decode
    for line in data.split(b"\n")[:-1]:
        with contextlib.suppress(msgspec.ValidationError):  # a fact of a later version
            yield decode_position(line).position, decode_fact(line)


def make_seal(documents: Sequence[Document], data: bytes, keys: Iterable[str], damaged: int = 0) -> Seal:
    """Create the seal of a segment that consists of these documents, encoded as `data`.

    Args:
        keys: of all devices named in them.
        damaged: parts of the segment that are no documents.
    """
    return Seal(
        first=documents[0]["position"],
        last=documents[-1]["position"],
        count=len(documents),
        size=len(data),
        crc32=zlib.crc32(data),
        newest=max(d["at"] for d in documents),
        devices=frozenset(keys),
        damaged=damaged,
        offset=documents[-1].get("offset", 0),
    )


def is_intact(data: bytes, seal: Seal) -> bool:
    """Whether a segment is as its seal describes it."""
    return len(data) == seal.size and zlib.crc32(data) == seal.crc32


def encode_seal(seal: Seal) -> bytes:
    """Encode a seal as a line of its CRC-32, and a line of JSON."""
    saved = msgspec.json.encode(seal)
    return b"%08x\n%b" % (zlib.crc32(saved), saved)


def decode_seal(saved: bytes) -> Seal | None:
    """Decode a seal; None if it is damaged. Those of earlier versions have no CRC-32."""
    check, _, text = saved.rpartition(b"\n")
    if check and check != b"%08x" % zlib.crc32(text):
        return None
    try:
        return msgspec.json.decode(text, type=Seal)
    except UNREADABLE:
        return None
