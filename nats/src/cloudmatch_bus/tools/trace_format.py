"""Which messages a tracer shows, and their format.

A message is one line, or one line for each payload of a batch. Everything from the bus is escaped, so that
no payload can control a terminal.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.deliveries import Claim, Span
from cloudmatch_bus.contract.messages import DeliveriesClaimed, DeliveriesCounted, decode_fact, encode
from cloudmatch_bus.contract.payloads import Payload, shape_of, split
from cloudmatch_bus.contract.printable import printable
from cloudmatch_bus.contract.request_batches import RequestBatch, decode_requests
from cloudmatch_bus.contract.unreadable import UNREADABLE

SYSTEM, HEARTBEAT = subjects.heartbeat("", "").split(".")[2:4]
MAX_TEXT = 80  # characters of a text that are shown
MAX_BYTES = 16  # bytes of a binary payload that are shown
BATCHES = tuple(str(kind.__struct_config__.tag) for kind in (DeliveriesCounted, DeliveriesClaimed))


class TraceLine(NamedTuple):
    """One line of a trace; fields that a message does not have are empty."""

    kind: str  # of subject: up, dn, ack, ctl, match, ev
    device: str  # <app>/<device>; of a payload on its way down also ← and the peer that sent it
    content: str  # the payload, or what it means
    match: str = ""
    seq: str = ""
    shape: str = ""  # kind and length of the payload, and the size of its batch

    def columns(self) -> str:
        """Everything but the kind, in columns."""
        if not self.match:
            return f"{self.device:<20}  {self.content}"
        return f"{self.device:<20}  match {self.match}  {self.seq:<6}  {self.shape:<9}  {self.content}"


class TraceFilter(NamedTuple):
    """Which messages to show. Default: all apps, all devices; heartbeats only if the app is `SYSTEM`."""

    app: str = ""
    devices: Sequence[str] = ()
    facts_only: bool = False

    def subjects(self) -> list[str]:
        """Subjects to subscribe to; no message arrives on two of them."""
        if self.facts_only:  # the subject of a fact names one device, but two may be involved
            return [subjects.every_ev()]
        if self.devices:
            about = [s for device in dict.fromkeys(self.devices) for s in subjects.of_device(device)]
            return [*about, *map(subjects.every_ev_of, BATCHES), subjects.every_match_batch()]
        return [subjects.EVERYTHING]

    def matches(self, pattern: str, subject: str, payload: bytes) -> bool:
        """Whether to show a message that arrived on the subject `pattern`."""
        app, kind, *rest = f"{subject}..".split(".")[2:]
        if self.app and app != subjects.token(self.app):
            return False
        if kind == HEARTBEAT and self.app != SYSTEM:  # two a second from every process
            return False
        if not self.devices:
            return True
        batch = kind == "ev" and rest[0] in BATCHES  # an edge may be named like a device
        if batch and pattern not in (subjects.every_ev(), subjects.every_ev_of(rest[0])):
            return False
        return not (batch or self.facts_only) or self._concerns(payload)

    def _concerns(self, payload: bytes) -> bool:
        """Whether a fact is about one of the devices."""
        try:
            return not set(decode_fact(payload).devices).isdisjoint(self.devices)
        except UNREADABLE:
            return False

    def shows(self, sender: str, receiver: str) -> bool:
        """Whether to show a line about payloads between two devices."""
        return not self.devices or sender in self.devices or receiver in self.devices


EVERYTHING = TraceFilter()


def clock(at: datetime) -> str:
    """Format the time of day, to the millisecond."""
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03}"


def format_raw(subject: str, reply: str, payload: bytes) -> str:
    """Format subject, reply address (- if there is none) and the whole payload as they are on the bus."""
    try:
        content = printable(payload.decode())
    except UnicodeDecodeError:
        content = payload.hex()
    return f"{printable(subject)}  {printable(reply) or '-'}  {content}"


def format_lines(
    subject: str, reply: str, payload: bytes, wanted: TraceFilter = EVERYTHING
) -> list[TraceLine]:
    """Format a message: one line, or one for each payload of a batch or direction of a fact."""
    parts = subject.split(".")
    if address := subjects.parse_reply(subject):
        return [_ack(address, payload)]
    if len(parts) == 7 and parts[3] == "match":
        return list(_requests(_id(parts[2]), payload, wanted))
    if len(parts) == 7 and parts[3] == "up":
        del parts[4]  # the edge, which its reply address names
    if len(parts) != 6:
        return [TraceLine("?", printable(subject), _guess(payload))]
    kind = printable(parts[3])
    device = f"{_id(parts[2])}/{_id(parts[5])}"
    if kind in ("up", "dn"):
        return _batch(kind, device, subjects.parse_reply(reply), payload)
    if kind == "ev" and parts[4] in BATCHES:
        return list(_deliveries(_id(parts[2]), payload, wanted)) or [TraceLine(kind, device, _json(payload))]
    return [TraceLine(kind, device, _json(payload))]


def _requests(app: str, payload: bytes, wanted: TraceFilter) -> Iterator[TraceLine]:
    """Format a batch of pairing requests."""
    try:
        batch = decode_requests(payload)
    except UNREADABLE:
        batch = None
    if not isinstance(batch, RequestBatch):
        yield TraceLine("match", app, _guess(payload))
        return
    for request in batch.requests:
        if wanted.shows(request.device, request.device):
            yield TraceLine("match", f"{app}/{printable(request.device)}", _json(encode(request)))


def _deliveries(app: str, payload: bytes, wanted: TraceFilter) -> Iterator[TraceLine]:
    """Format a fact about payloads delivered; nothing if it cannot be read."""
    try:
        fact = decode_fact(payload)
    except UNREADABLE:
        return
    told: list[tuple[Span | Claim, tuple[str, str]]]
    match fact:
        case DeliveriesCounted():
            told = [(span, _counted(span)) for span in fact.spans]
        case DeliveriesClaimed():
            told = [(claim, _claimed(claim)) for claim in fact.claims]
        case _:
            return
    by = f" by {printable(fact.source)}"
    for each, (number, text) in told:
        if wanted.shows(each.sender, each.receiver):
            device = f"{app}/{printable(each.sender)} → {printable(each.receiver) or '-'}"
            yield TraceLine("ev", device, text + by, str(each.match), number)


def _counted(span: Span) -> tuple[str, str]:
    """Format number and content of a span."""
    sizes = span.sizes if len(span.sizes) <= MAX_TEXT else f"{span.sizes[:MAX_TEXT]}…"
    what = f"{span.payloads} delivered, {span.bytes} bytes"
    return f"#{span.first}", what if span.payloads == 1 else f"{what} ({printable(sizes)})"


def _claimed(claim: Claim) -> tuple[str, str]:
    """Format number and content of a claim."""
    if claim.span is None:
        return f"#{claim.delivered}", "claimed: all before delivered"
    number, text = _counted(claim.span)
    return number, f"claimed: {text}"


def _ack(address: subjects.ReplyAddress, payload: bytes) -> TraceLine:
    device = f"{_id(address.app)}/{_id(address.device)}"
    content = f"the peer's edge has received all before #{address.seq}"
    if address.shape != subjects.ACK:
        content = f"not an ack: {printable(address.shape)} {_guess(payload)}"
    return TraceLine("ack", device, content, str(address.match), f"#{address.seq}")


def _batch(kind: str, device: str, address: subjects.ReplyAddress | None, data: bytes) -> list[TraceLine]:
    if address is None:
        return [TraceLine(kind, device, f"no reply address: {_guess(data)}")]
    if kind == "dn":
        device = f"{device} ← {_id(address.device)}"
    match = str(address.match)
    try:
        payloads = split(address.shape, data)
    except ValueError as error:
        return [TraceLine(kind, device, f"malformed: {printable(str(error))}", match, f"#{address.seq}")]
    of = f" of {len(payloads)}" if len(payloads) > 1 else ""
    return [
        TraceLine(kind, device, _payload(each), match, f"#{seq}", shape_of(each) + of)
        for seq, each in enumerate(payloads, address.seq)
    ]


def _payload(payload: Payload) -> str:
    """Format a payload in quotes or as hex, truncated if it is long."""
    is_text, data = payload
    size = len(data)
    if is_text:
        text = data.decode(errors="replace")
        return repr(text) if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]!r}… {size} bytes"
    shown = data[:MAX_BYTES].hex(" ")
    return shown if size <= MAX_BYTES else f"{shown}… {size} bytes"


def _guess(data: bytes) -> str:
    """Format bytes of unknown kind: as text if they are UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return _payload((False, data))
    return _payload((True, data))


def _json(data: bytes) -> str:
    """Format JSON as it is, anything else as a payload."""
    try:
        msgspec.json.decode(data)
        return printable(data.decode())
    except UNREADABLE:
        return _guess(data)


def _id(token: str) -> str:
    try:
        return printable(subjects.untoken(token))
    except ValueError:
        return printable(token)
