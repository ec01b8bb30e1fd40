"""Which messages a tracer shows, and their format.

A message is one line, or one line for each payload of a batch. Everything from the bus is escaped, so that
no payload can control a terminal.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import decode_fact
from cloudmatch_bus.contract.payloads import Payload, shape_of, split

SYSTEM, HEARTBEAT = subjects.heartbeat("", "").split(".")[2:4]
MAX_TEXT = 80  # characters of a text that are shown
MAX_BYTES = 16  # bytes of a binary payload that are shown


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
            return [s for device in dict.fromkeys(self.devices) for s in subjects.of_device(device)]
        return [subjects.EVERYTHING]

    def matches(self, subject: str, payload: bytes) -> bool:
        """Whether to show a message that arrived on one of the subjects."""
        app, kind = f"{subject}.".split(".")[2:4]
        if self.app and app != subjects.token(self.app):
            return False
        if kind == HEARTBEAT and self.app != SYSTEM:  # two a second from every process
            return False
        if not (self.facts_only and self.devices):
            return True
        try:
            return not set(decode_fact(payload).devices).isdisjoint(self.devices)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False


def clock(at: datetime) -> str:
    """Format the time of day, to the millisecond."""
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03}"


def format_raw(subject: str, reply: str, payload: bytes) -> str:
    """Format subject, reply address (- if there is none) and the whole payload as they are on the bus."""
    try:
        content = _printable(payload.decode())
    except UnicodeDecodeError:
        content = payload.hex()
    return f"{_printable(subject)}  {_printable(reply) or '-'}  {content}"


def format_lines(subject: str, reply: str, payload: bytes) -> list[TraceLine]:
    """Format a message: one line, or one for each payload of a batch."""
    parts = subject.split(".")
    if address := subjects.parse_reply(subject):
        return [_ack(address, payload)]
    if len(parts) != 6:
        return [TraceLine("?", _printable(subject), _guess(payload))]
    kind = _printable(parts[3])
    device = f"{_id(parts[2])}/{_id(parts[5])}"
    if kind in ("up", "dn"):
        return _batch(kind, device, subjects.parse_reply(reply), payload)
    return [TraceLine(kind, device, _json(payload))]


def _ack(address: subjects.ReplyAddress, payload: bytes) -> TraceLine:
    device = f"{_id(address.app)}/{_id(address.device)}"
    content = f"the peer's edge has received all before #{address.seq}"
    if address.shape != subjects.ACK:
        content = f"not an ack: {_printable(address.shape)} {_guess(payload)}"
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
        return [TraceLine(kind, device, f"malformed: {_printable(str(error))}", match, f"#{address.seq}")]
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
        return _printable(data.decode())
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _guess(data)


def _id(token: str) -> str:
    try:
        return _printable(subjects.untoken(token))
    except ValueError:
        return _printable(token)


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
