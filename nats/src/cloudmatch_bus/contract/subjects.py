"""Every subject on the bus; no other module spells one.

A subject is tokens joined by dots. An id may hold any character, so it is escaped: letters, digits, ``_`` and
``-`` stand for themselves, every other byte of its UTF-8 becomes ``=HH``. The device comes last, so that
``nats sub 'cm.v1.demo.*.*.dev42' 'cm.v1.demo.up.*.*.dev42'`` shows everything one device sends and receives.

    cm.v1.<app>.up.<edge>.<part>.<dev>    payloads: edge → match-engine (queue group)
    cm.v1.<app>.up.<edge>.x.<dev>         the same while no worker owns the partition
    cm.v1.<app>.up.<part>.<dev>           both of edges of earlier versions
    cm.v1.<app>.dn.<edge>.<dev>           payloads: match-engine → the edge that holds <dev>
    cm.v1.<app>.ack.<edge>.<dev>.<match>.<seq>.<shape>   reply address of payloads; acks
    cm.v1.<app>.match.<cellpart>.<edge>.batch   pairing requests: edge → match-engine (queue group)
    cm.v1.<app>.match.<cellpart>.<dev>    one of them, of edges of earlier versions
    cm.v1.<app>.ctl.<edge>.<dev>          pairing updates: match-engine → edge
    cm.v1.<app>.ev.<kind>.<dev>           facts, kept in the stream EVENTS
    cm.v1.sys.hb.<edge|worker>.<id>       heartbeats
    cm.v1.sys.probe.<edge>                probes of an edge that has been silent
    cm.v1.sys.explain                     why a device is not matched: anyone → match-engine
    cm.v1.sys.cluster                     edges and workers, and where a device is: anyone → match-engine
    cm.v1.sys.devices                     which devices an app has: operator → match-engine
    cm.v1.sys.device                      how one of them is: operator → match-engine
"""

import re
from functools import lru_cache

import msgspec

from cloudmatch_bus.contract.bounds import EXACT

ROOT = "cm.v1"
QUEUE_GROUP = "match-engine"  # of the workers
PARTITIONS = 128
MAX_TALK = 2048  # bytes of an ack or a handover, at most
CACHED_ADDRESSES = 16_384  # reply addresses whose parsed form is cached
DETOUR_STEP = 37  # partitions from one detour to the next
FALLBACK = "x"  # in place of the partition: any worker serves it
EVERYTHING = f"{ROOT}.>"
# Bytes of an edge's token, at most: then each line of NATS' protocol has fewer than the 4096 bytes that
# servers take, with ids of 64 characters of four bytes in every place.
MAX_EDGE = 255

_PLAIN = re.compile(r"[A-Za-z0-9_-]*")
_ESCAPE = re.compile(rb"[^A-Za-z0-9_-]")
_UNESCAPE = re.compile(r"=([0-9A-F]{2})")


def token(identifier: str) -> str:
    """Escape an id into one subject token; `untoken` reverses it."""
    if _PLAIN.fullmatch(identifier):
        return identifier
    return _ESCAPE.sub(lambda m: b"=%02X" % m[0][0], identifier.encode()).decode("ascii")


def untoken(escaped: str) -> str:
    """Return the id that `token` escaped.

    Raises:
        ValueError: the bytes of the id are not UTF-8.
    """
    if "=" not in escaped:
        return escaped
    return _UNESCAPE.sub(lambda m: chr(int(m[1], 16)), escaped).encode("latin-1").decode()


def partition(*parts: str) -> int:
    """Map tokens to a partition: 64-bit FNV-1a of the joined tokens, modulo `PARTITIONS`."""
    h = 0xCBF29CE484222325
    for byte in ".".join(parts).encode():
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h % PARTITIONS


def up(app: str, edge: str, device: str, detour: int = 0) -> str:
    """Payloads of a device, from `edge` (ids, not tokens); each detour is another partition."""
    a, d = token(app), token(device)
    part = (partition(a, d) + detour * DETOUR_STEP) % PARTITIONS
    return f"{ROOT}.{a}.up.{token(edge)}.{part}.{d}"


def up_fallback(app: str, edge: str, device: str) -> str:
    """The same while no worker owns the device's partition."""
    return f"{ROOT}.{token(app)}.up.{token(edge)}.{FALLBACK}.{token(device)}"


def dn(app: str, edge: str, device: str) -> str:
    """Payloads for `device`, sent to `edge`, which holds it."""
    return f"{ROOT}.{token(app)}.dn.{token(edge)}.{token(device)}"


def match_lane(app: str, cell: str) -> str:
    """What all pairing requests about devices in `cell` (`cells.cell`) have in common: app and partition."""
    a = token(app)
    return f"{ROOT}.{a}.match.{partition(a, cell)}"


def match_batch(lane: str, edge: str) -> str:
    """Pairing requests of one edge to one partition (`match_lane`)."""
    return f"{lane}.{token(edge)}.batch"


def match(app: str, cell: str, device: str) -> str:
    """The only subject for pairing requests that edges of earlier versions know."""
    return f"{match_lane(app, cell)}.{token(device)}"


def ctl(app: str, edge: str, device: str) -> str:
    """Pairing updates about `device`, sent to `edge`, which holds it."""
    return f"{ROOT}.{token(app)}.ctl.{token(edge)}.{token(device)}"


def ev(app: str, kind: str, device: str) -> str:
    """Facts of one kind about a device."""
    return f"{ROOT}.{token(app)}.ev.{kind}.{token(device)}"


def heartbeat(role: str, name: str) -> str:
    """Heartbeats of one process; `role` is ``edge`` or ``worker``.

    What follows the last slash in a worker's name tells apart the processes that have the same credentials.
    """
    known = name.rpartition("/")[0] if role == "worker" else ""
    return f"{ROOT}.sys.hb.{role}.{token(known or name)}"


def probe(edge: str) -> str:
    """Probes of one edge."""
    return f"{ROOT}.sys.probe.{token(edge)}"


def explain() -> str:
    """Requests to match-engine: why is a device not matched?"""
    return f"{ROOT}.sys.explain"


def cluster() -> str:
    """Requests to match-engine: which edges and workers are there, and which edge holds a device?"""
    return f"{ROOT}.sys.cluster"


def devices() -> str:
    """Requests to match-engine: which devices does an app have?"""
    return f"{ROOT}.sys.devices"


def device() -> str:
    """Requests to match-engine: how is one device?"""
    return f"{ROOT}.sys.device"


def ack_prefix(app: str, edge: str, device: str, match: int) -> str:
    """Reply addresses of a device's payloads in `match`, without ``<seq>.<shape>``; ends with a dot."""
    return f"{ROOT}.{token(app)}.ack.{token(edge)}.{token(device)}.{match}."


class ReplyAddress(msgspec.Struct, frozen=True):
    """A parsed reply address: who sent payloads, in which match, and which payloads they are."""

    app: str  # token
    edge: str  # token
    device: str  # token, of the sender
    match: int
    seq: int  # number of the first payload; in an ack of the next payload expected
    shape: str  # kinds and lengths (`payloads`), or `ACK` and its like
    prefix: str  # the address without ``<seq>.<shape>``: all acks of one sender in this match begin with it


def parse_reply(address: str) -> ReplyAddress | None:
    """Parse a reply address, or the subject of an ack; None if it is neither."""
    try:
        prefix, seq, shape = address.rsplit(".", 2)
        app, edge, device, match, with_dot = _parse_prefix(prefix)
        number = int(seq)
    except ValueError:
        return None
    return ReplyAddress(app, edge, device, match, number, shape, with_dot) if 0 <= number < EXACT else None


@lru_cache(CACHED_ADDRESSES)
def _parse_prefix(prefix: str) -> tuple[str, str, str, int, str]:
    parts = prefix.split(".")
    if len(parts) != 7 or parts[3] != "ack":
        raise ValueError(f"{prefix!r} is no prefix of a reply address")
    return parts[2], parts[4], parts[5], _number(parts[6]), f"{prefix}."


def _number(text: str | bytes) -> int:
    number = int(text)
    if 0 <= number < EXACT:
        return number
    raise ValueError(f"{text!r} is no number of ours")


def _words(payload: bytes) -> list[bytes]:
    return payload.split() if len(payload) <= MAX_TALK else []


# Shapes that mark messages to a reply address, instead of describing payloads sent with one.
ACK = "a"  # a cumulative ack; its payload is an `ack_payload`
POSITION = "p"  # a `messages.Position`
HANDOVER = "q"  # one connection of a device asks a newer one where it began; a `handover_payload`
HANDOVER_REPLY = "e"  # its answer: ``<seq>`` is where it began; a `handover_reply_payload`


def ack_payload(delivered: int, connection_id: int, to: int) -> bytes:
    """Payload of an ack; its subject carries the number of the payload expected next.

    Args:
        delivered: all payloads before this number were delivered to the device.
        connection_id: of the connection that acknowledges.
        to: id of the connection that sent the payloads.
    """
    return b"%d %d %d" % (delivered, connection_id, to)


def parse_ack(payload: bytes) -> tuple[int, int, int] | None:
    """Parse (delivered, connection id, to) of an ack; None if it is malformed."""
    try:
        one, other, another = payload[:MAX_TALK].split()
        delivered, connection_id, to = int(one), int(other), int(another)
    except ValueError:
        return None
    if 0 <= delivered < EXACT and 0 <= connection_id < EXACT and 0 <= to < EXACT:
        return delivered, connection_id, to
    return None


def handover_payload(asker: int, edge: str, asked: int) -> bytes:
    """Payload of a `HANDOVER`: the connection that asks, its edge, and the newer connection it asks."""
    return f"{asker} {token(edge)} {asked}".encode()


def parse_handover(payload: bytes) -> tuple[int, str, int] | None:
    """Parse (asker, edge, asked) of a `HANDOVER`; None if it is malformed."""
    try:
        asker, edge, asked = _words(payload)
        return _number(asker), untoken(edge.decode()), _number(asked)
    except ValueError:
        return None


def handover_reply_payload(connection_id: int, since: int) -> bytes:
    """Payload of a `HANDOVER_REPLY`.

    Args:
        connection_id: of the connection that asked.
        since: that connection reports the sizes from this payload up to ``<seq>`` in the subject.
    """
    return b"%d %d" % (connection_id, since)


def parse_handover_reply(payload: bytes) -> tuple[int, int] | None:
    """Parse (connection id, since) of a `HANDOVER_REPLY`; None if it is malformed."""
    try:
        connection_id, since = _words(payload)
        return _number(connection_id), _number(since)
    except ValueError:
        return None


def dn_from_ctl(subject: str) -> str:
    """The `dn` subject of the device that a `ctl` subject names."""
    parts = subject.split(".")
    parts[3] = "dn"
    return ".".join(parts)


def dn_from_ack(address: ReplyAddress) -> str:
    """The `dn` subject of the device whose payloads this ack acknowledges."""
    return f"{ROOT}.{address.app}.dn.{address.edge}.{address.device}"


def ack_prefix_on(address: ReplyAddress, edge: str) -> str:
    """The `prefix` that `address` would have if another edge (id) held the device."""
    return f"{ROOT}.{address.app}.ack.{token(edge)}.{address.device}.{address.match}."


def app_and_device(subject: str) -> tuple[str, str]:
    """Ids of app and device in a subject that ends with the device."""
    parts = subject.split(".")
    return untoken(parts[2]), untoken(parts[-1])


def parse_up(subject: str) -> tuple[str, str, str] | None:
    """Return app, edge and device (tokens) of an `up` subject; None if it is not one.

    Edges of earlier versions do not name themselves: "".
    """
    parts = subject.split(".")  # cm v1 <app> up [<edge>] <part> <dev>
    if len(parts) == 7:
        return parts[2], parts[4], parts[6]
    return (parts[2], "", parts[5]) if len(parts) == 6 else None


def all_of(kind: str) -> str:
    """All subjects of one kind (``up``, ``dn``, ``ack``, ``match``, ``ctl``, ``ev``), of every app."""
    return f"{ROOT}.*.{kind}.>"


def of_device(device: str) -> list[str]:
    """All that one device sends and receives, acks of its payloads included."""
    d = token(device)
    return [f"{ROOT}.*.*.*.{d}", f"{ROOT}.*.up.*.*.{d}", f"{ROOT}.*.ack.*.{d}.*.*.*"]


def every_up_of(partition: int | str) -> str:
    """`up` of one partition: its owner subscribes in `QUEUE_GROUP`, as every worker does for `FALLBACK`."""
    return f"{ROOT}.*.up.*.{partition}.*"


def every_earlier_up_of(partition: int | str) -> str:
    """The same, of edges of earlier versions."""
    return f"{ROOT}.*.up.{partition}.*"


def every_up_from(edge: str) -> str:
    """`up` of one edge; not ``>``, or a partition could pass for its name."""
    return f"{ROOT}.*.up.{token(edge)}.*.*"


def every_match() -> str:
    """All pairing requests: workers subscribe in `QUEUE_GROUP`."""
    return all_of("match")


def every_match_of(partition: int) -> str:
    """Single pairing requests of one partition of cells: its owner subscribes in `QUEUE_GROUP`."""
    return f"{ROOT}.*.match.{partition}.*"


def every_match_batch() -> str:
    """All batches of pairing requests."""
    return f"{ROOT}.*.match.*.*.batch"


def every_match_batch_from(edge: str) -> str:
    """All batches of one edge."""
    return f"{ROOT}.*.match.*.{token(edge)}.batch"


def every_match_batch_of(partition: int) -> str:
    """Batches of one partition: its owner subscribes in `QUEUE_GROUP`."""
    return f"{ROOT}.*.match.{partition}.*.batch"


def every_dn(edge: str) -> str:
    """All payloads for devices of one edge."""
    return f"{ROOT}.*.dn.{token(edge)}.>"


def every_ack(edge: str) -> str:
    """All acks of payloads that one edge sent."""
    return f"{ROOT}.*.ack.{token(edge)}.>"


def every_ctl(edge: str) -> str:
    """All pairing updates for devices of one edge."""
    return f"{ROOT}.*.ctl.{token(edge)}.>"


def every_ev() -> str:
    """All facts: the subjects of the stream EVENTS."""
    return all_of("ev")


def every_ev_of(kind: str) -> str:
    """All facts of one kind."""
    return f"{ROOT}.*.ev.{kind}.*"


def every_ev_from(kind: str, source: str) -> str:
    """All facts of one kind whose subject names this source in place of a device."""
    return f"{ROOT}.*.ev.{kind}.{token(source)}"


def every_heartbeat(role: str) -> str:
    """Heartbeats of all processes of a role."""
    return f"{ROOT}.sys.hb.{role}.*"


def every_probe() -> str:
    """Probes of all edges."""
    return f"{ROOT}.sys.probe.*"
