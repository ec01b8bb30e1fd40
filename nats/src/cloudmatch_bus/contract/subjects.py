"""Every subject on the bus. No other module spells one.

Subjects are tokens joined by dots. An id may hold any character, so it is escaped: letters, digits,
``_`` and ``-`` stand for themselves, every other UTF-8 byte becomes ``=HH``. The device always comes
last, so that ``nats sub 'cm.v1.demo.*.*.dev42'`` shows all that one device says and hears.

    cm.v1.<app>.up.<part>.<dev>           frames, edge → match-engine (queue group)
    cm.v1.<app>.up.x.<dev>                the same, fallback: every worker serves it
    cm.v1.<app>.dn.<edge>.<dev>           frames, match-engine → the edge that holds <dev>
    cm.v1.<app>.ack.<edge>.<dev>.<match>.<seq>.<shape>   reply address of a frame
    cm.v1.<app>.match.<cellpart>.<dev>    pairing requests (queue group)
    cm.v1.<app>.ctl.<edge>.<dev>          paired, unpaired, replaced, away, back: match-engine → edge
    cm.v1.<app>.ev.<kind>.<dev>           facts, kept in the stream EVENTS
    cm.v1.sys.hb.<edge|worker>.<id>       heartbeats
    cm.v1.sys.probe.<edge>                asked of an edge that was silent: do you live?
"""

import re
from functools import lru_cache

import msgspec

ROOT = "cm.v1"
QUEUE_GROUP = "match-engine"
PARTITIONS = 128
CACHED_ADDRESSES = 16_384  # addresses of devices that talk, whose parsed form is kept
DETOUR = 37  # partitions between two detours
FALLBACK = "x"
EVERYTHING = f"{ROOT}.>"

_PLAIN = re.compile(r"[A-Za-z0-9_-]*")
_ESCAPE = re.compile(rb"[^A-Za-z0-9_-]")
_UNESCAPE = re.compile(r"=([0-9A-F]{2})")


def token(identifier: str) -> str:
    """Escape an id into one subject token. `untoken` gives it back."""
    if _PLAIN.fullmatch(identifier):
        return identifier
    return _ESCAPE.sub(lambda m: b"=%02X" % m[0][0], identifier.encode()).decode("ascii")


def untoken(escaped: str) -> str:
    """Give back the id that `token` escaped.

    Raises:
        ValueError: the token holds bytes that are not UTF-8.
    """
    if "=" not in escaped:
        return escaped
    return _UNESCAPE.sub(lambda m: chr(int(m[1], 16)), escaped).encode("latin-1").decode()


def partition(*parts: str) -> int:
    """Spread tokens over the fixed number of partitions: FNV-1a, 64 bits, modulo `PARTITIONS`."""
    h = 0xCBF29CE484222325
    for byte in ".".join(parts).encode():
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h % PARTITIONS


def up(app: str, device: str, detour: int = 0) -> str:
    """Where an edge sends the frames of a device (ids, not tokens); each detour is another partition."""
    a, d = token(app), token(device)
    return f"{ROOT}.{a}.up.{(partition(a, d) + detour * DETOUR) % PARTITIONS}.{d}"


def up_fallback(app: str, device: str) -> str:
    """Where an edge sends them while nobody serves the device's partition."""
    return f"{ROOT}.{token(app)}.up.{FALLBACK}.{token(device)}"


def dn(app: str, edge: str, device: str) -> str:
    """Where a worker sends the frames that `device`, held by `edge`, is to hear."""
    return f"{ROOT}.{token(app)}.dn.{token(edge)}.{token(device)}"


def match(app: str, cell: str, device: str) -> str:
    """Where an edge asks for the pairing of a device in the coarse `cell`."""
    a = token(app)
    return f"{ROOT}.{a}.match.{partition(a, cell)}.{token(device)}"


def ctl(app: str, edge: str, device: str) -> str:
    """Where a worker tells an edge what became of a device's pairing."""
    return f"{ROOT}.{token(app)}.ctl.{token(edge)}.{token(device)}"


def dn_from_ctl(subject: str) -> str:
    """The `dn` subject of the device that a `ctl` subject names."""
    parts = subject.split(".")
    parts[3] = "dn"
    return ".".join(parts)


def dn_from_ack(address: "ReplyAddress") -> str:
    """The `dn` subject of the device whose payloads this ack acknowledges."""
    return f"{ROOT}.{address.app}.dn.{address.edge}.{address.device}"


def ack_prefix_on(address: "ReplyAddress", edge: str) -> str:
    """The `prefix` that `address` would have if another edge (id) held the device."""
    return f"{ROOT}.{address.app}.ack.{token(edge)}.{address.device}.{address.match}."


def app_and_device(subject: str) -> tuple[str, str]:
    """The plain ids of app and device in a subject that ends with the device."""
    parts = subject.split(".")
    return untoken(parts[2]), untoken(parts[-1])


def ev(app: str, kind: str, device: str) -> str:
    """Where a fact of this kind about a device is published."""
    return f"{ROOT}.{token(app)}.ev.{kind}.{token(device)}"


def ack_prefix(app: str, edge: str, device: str, match: int) -> str:
    """The reply address of a device's frames up to and without ``<seq>.<shape>``; ends with a dot."""
    return f"{ROOT}.{token(app)}.ack.{token(edge)}.{token(device)}.{match}."


class ReplyAddress(msgspec.Struct, frozen=True):
    """What a frame's reply address says: who sent it, in which match, which frames it carries."""

    app: str  # token
    edge: str  # token
    device: str  # token of the sender
    match: int  # the match
    seq: int  # number of the first frame, or for an ack: of the next frame expected
    shape: str  # kinds and lengths, or `ACK`
    prefix: str  # the address up to and without ``<seq>.<shape>``: what every ack of this match begins with


# Shapes of messages that are no payloads, but about those which were sent with this reply address.
ACK = "a"  # a cumulative ack; `ack_payload`
POSITION = "p"  # a `messages.Position`
HANDOVER = "q"  # a device's older connection asks its newer one: where did you begin? `handover_payload`
HANDOVER_REPLY = "e"  # the answer, in place of the sequence number; `handover_reply_payload`


def ack_payload(delivered: int, connection_id: int, to: int) -> bytes:
    """Payload of an ack; its subject carries the number of the payload expected next.

    Args:
        delivered: all payloads before this number were delivered to the device.
        connection_id: of the connection that acknowledges.
        to: id of the connection that sent the payloads.
    """
    return b"%d %d %d" % (delivered, connection_id, to)


def parse_ack(payload: bytes) -> tuple[int, int, int] | None:
    """Read (delivered, connection id, to) of an ack's payload; None when it is malformed."""
    try:
        delivered, connection_id, to = payload.split()
        return int(delivered), int(connection_id), int(to)
    except ValueError:
        return None


def handover_payload(asker: int, edge: str, asked: int) -> bytes:
    """Payload of a `HANDOVER`: the older connection, the edge that held it, and the newer connection."""
    return f"{asker} {token(edge)} {asked}".encode()


def parse_handover(payload: bytes) -> tuple[int, str, int] | None:
    """Read (asker, edge, asked) of a `HANDOVER`; None when it is malformed."""
    try:
        asker, edge, asked = payload.decode().split()
        return int(asker), untoken(edge), int(asked)
    except ValueError:
        return None


def handover_reply_payload(connection_id: int, since: int) -> bytes:
    """Payload of a `HANDOVER_REPLY`: the connection it is for, and the payload since which it holds."""
    return b"%d %d" % (connection_id, since)


def parse_handover_reply(payload: bytes) -> tuple[int, int] | None:
    """Read (connection id, since) of a `HANDOVER_REPLY`; None when it is malformed."""
    try:
        connection_id, since = payload.split()
        return int(connection_id), int(since)
    except ValueError:
        return None


def parse_reply(address: str) -> ReplyAddress | None:
    """Read a frame's reply address (or an ack's subject); None when it is not one."""
    try:
        prefix, seq, shape = address.rsplit(".", 2)
        app, edge, device, match, beginning = _parse_prefix(prefix)
        return ReplyAddress(app, edge, device, match, int(seq), shape, beginning)
    except ValueError:
        return None


@lru_cache(CACHED_ADDRESSES)
def _parse_prefix(prefix: str) -> tuple[str, str, str, int, str]:
    parts = prefix.split(".")
    if len(parts) != 7 or parts[3] != "ack":
        raise ValueError(f"{prefix!r} begins no reply address")
    return parts[2], parts[4], parts[5], int(parts[6]), f"{prefix}."


def parse_up(up: str) -> tuple[str, str] | None:
    """Give app and device (tokens) of a subject on which frames go up; None when it is not one."""
    parts = up.split(".")  # cm v1 <app> up <part> <dev>
    return (parts[2], parts[5]) if len(parts) == 6 else None


def every_up_of(partition: int) -> str:
    """Frames of one partition's devices: what its owner subscribes to, in `QUEUE_GROUP`."""
    return f"{ROOT}.*.up.{partition}.*"


def every_up_fallback() -> str:
    """Frames by the fallback: what every worker subscribes to, in `QUEUE_GROUP`."""
    return f"{ROOT}.*.up.{FALLBACK}.*"


def every_match() -> str:
    """All pairing requests: what a worker subscribes to, in `QUEUE_GROUP`."""
    return all_of("match")


def every_dn(edge: str) -> str:
    """All frames for devices of one edge."""
    return f"{ROOT}.*.dn.{token(edge)}.>"


def every_ack(edge: str) -> str:
    """All acks for frames that one edge sent."""
    return f"{ROOT}.*.ack.{token(edge)}.>"


def every_ctl(edge: str) -> str:
    """All pairing news for devices of one edge."""
    return f"{ROOT}.*.ctl.{token(edge)}.>"


def every_ev() -> str:
    """All facts: what the stream EVENTS keeps."""
    return all_of("ev")


def of_device(device: str) -> list[str]:
    """What to subscribe to in order to see all that one device says and hears, its acks included."""
    d = token(device)
    return [f"{ROOT}.*.*.*.{d}", f"{ROOT}.*.ack.*.{d}.*.*.*"]


def every_heartbeat(role: str) -> str:
    """The heartbeats of all processes of a role."""
    return f"{ROOT}.sys.hb.{role}.*"


def heartbeat(role: str, name: str) -> str:
    """Where a process of `role` (``edge`` or ``worker``) says that it lives."""
    return f"{ROOT}.sys.hb.{role}.{token(name)}"


def probe(edge: str) -> str:
    """Where an edge is asked whether it lives."""
    return f"{ROOT}.sys.probe.{token(edge)}"


def every_match_of(partition: int) -> str:
    """Pairing requests of one partition's cells: what its owner subscribes to, in `QUEUE_GROUP`."""
    return f"{ROOT}.*.match.{partition}.*"


def explain() -> str:
    """Where match-engine is asked why a device is not matched."""
    return f"{ROOT}.sys.explain"


def all_of(word: str) -> str:
    """All subjects of one word (``up``, ``dn``, ``ack``, ``match``, ``ctl``), of every app."""
    return f"{ROOT}.*.{word}.>"


def every_ev_of(kind: str) -> str:
    """All facts of one kind."""
    return f"{ROOT}.*.ev.{kind}.*"


def every_probe() -> str:
    """Where edges are asked whether they live."""
    return f"{ROOT}.sys.probe.*"
