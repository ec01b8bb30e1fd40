"""What a tracer shows of the messages on the bus: which ones, and in what words.

One message becomes one line, or one line for each payload where several travel together. All that others
wrote is escaped, so that no payload can play tricks with a terminal.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import decode_fact
from cloudmatch_bus.contract.payloads import Payload, shape_of, split

SYSTEM, HEARTBEAT = subjects.heartbeat("", "").split(".")[2:4]
TEXT = 80  # characters of a text shown, at most
HEX = 16  # bytes of a binary payload shown, at most


class TraceLine(NamedTuple):
    """One line of a trace. What a message does not have is empty."""

    word: str  # up, dn, ack, ctl, match, ev: the kind of subject
    who: str  # <app>/<device>; of what a device hears, ← and its peer, too
    said: str  # the payload, or what it means
    match: str = ""
    seq: str = ""
    shape: str = ""  # kind and length of the payload, and which of a batch it is

    def columns(self) -> str:
        """Everything behind the word, in columns."""
        if not self.match:
            return f"{self.who:<20}  {self.said}"
        return f"{self.who:<20}  match {self.match}  {self.seq:<6}  {self.shape:<9}  {self.said}"


class Interest(NamedTuple):
    """What is to be traced. Empty: all apps, all devices; heartbeats only as the app `SYSTEM`."""

    app: str = ""
    devices: Sequence[str] = ()
    facts_only: bool = False

    def subjects(self) -> list[str]:
        """What to subscribe to. No message comes on two of them."""
        if self.facts_only:  # a fact's subject names one device, though two may have taken part
            return [subjects.every_ev()]
        if self.devices:
            return [s for device in dict.fromkeys(self.devices) for s in subjects.of_device(device)]
        return [subjects.EVERYTHING]

    def wants(self, subject: str, payload: bytes) -> bool:
        """Whether a message that came on one of the subjects is to be shown."""
        app, word = f"{subject}.".split(".")[2:4]
        if self.app and app != subjects.token(self.app):
            return False
        if word == HEARTBEAT and self.app != SYSTEM:  # twice a second, from every process
            return False
        if not (self.facts_only and self.devices):
            return True
        try:
            return not set(decode_fact(payload).devices).isdisjoint(self.devices)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False


def clock(at: datetime) -> str:
    """The time of day, to the millisecond."""
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03}"


def raw(subject: str, reply: str, payload: bytes) -> str:
    """Show subject, reply address (- when there is none) and the whole payload, as they are on the bus."""
    try:
        said = _printable(payload.decode())
    except UnicodeDecodeError:
        said = payload.hex()
    return f"{_printable(subject)}  {_printable(reply) or '-'}  {said}"


def lines(subject: str, reply: str, payload: bytes) -> list[TraceLine]:
    """Put a message into words."""
    parts = subject.split(".")
    if address := subjects.parse_reply(subject):
        return [_ack(address, payload)]
    if len(parts) != 6:
        return [TraceLine("?", _printable(subject), _guess(payload))]
    word = _printable(parts[3])
    who = f"{_id(parts[2])}/{_id(parts[5])}"
    if word in ("up", "dn"):
        return _frames(word, who, subjects.parse_reply(reply), payload)
    return [TraceLine(word, who, _json(payload))]


def _ack(address: subjects.ReplyAddress, payload: bytes) -> TraceLine:
    who = f"{_id(address.app)}/{_id(address.device)}"
    said = f"the peer has all before #{address.seq}"
    if address.shape != subjects.ACK:
        said = f"not an ack: {_printable(address.shape)} {_guess(payload)}"
    return TraceLine("ack", who, said, str(address.match), f"#{address.seq}")


def _frames(word: str, who: str, address: subjects.ReplyAddress | None, payload: bytes) -> list[TraceLine]:
    if address is None:
        return [TraceLine(word, who, f"no reply address: {_guess(payload)}")]
    if word == "dn":
        who = f"{who} ← {_id(address.device)}"
    match = str(address.match)
    try:
        frames = split(address.shape, payload)
    except ValueError as error:
        return [TraceLine(word, who, f"malformed: {_printable(str(error))}", match, f"#{address.seq}")]
    of = f" of {len(frames)}" if len(frames) > 1 else ""
    return [
        TraceLine(word, who, _payload(f), match, f"#{address.seq + i}", shape_of(f) + of)
        for i, f in enumerate(frames)
    ]


def _payload(frame: Payload) -> str:
    """A payload in quotes or as hex, cut where it is long."""
    is_text, data = frame
    size = len(data)
    if is_text:
        text = data.decode(errors="replace")
        return repr(text) if len(text) <= TEXT else f"{text[:TEXT]!r}… {size} bytes"
    shown = data[:HEX].hex(" ")
    return shown if size <= HEX else f"{shown}… {size} bytes"


def _guess(payload: bytes) -> str:
    """A payload of which nobody said what it is."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return _payload((False, payload))
    return _payload((True, payload))


def _json(payload: bytes) -> str:
    """JSON as it is; anything else as a payload."""
    try:
        msgspec.json.decode(payload)
        return _printable(payload.decode())
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _guess(payload)


def _id(token: str) -> str:
    try:
        return _printable(subjects.untoken(token))
    except ValueError:
        return _printable(token)


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
