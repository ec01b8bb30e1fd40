"""The ports of `relay`, played by lists: what a device or match asked for, and what it wrote."""

from collections.abc import Sequence
from typing import NamedTuple

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import DevicePaired
from cloudmatch_bus.contract.payloads import Payload, join
from cloudmatch_edge.dialects.base import Dialect, SocketFrame
from cloudmatch_edge.dialects.classic import Classic
from cloudmatch_edge.dialects.close_codes import CloseCode
from cloudmatch_edge.dialects.parameters import Parameters
from cloudmatch_edge.dialects.v1 import V1
from cloudmatch_edge.dialects.v1_messages import Welcome
from cloudmatch_edge.relay.book import Direction
from cloudmatch_edge.relay.device import Device
from cloudmatch_edge.relay.match import Match

APP, DEVICE, PEER = "app", "a", "b"
EDGE, PEER_EDGE = "edge-a", "edge-b"
CONNECTION, PEER_CONNECTION = 10, 20


class Counted(NamedTuple):
    """What was reported as delivered at once."""

    direction: Direction
    first: int
    sizes: list[int]
    late: bool = False


class FakeBus:
    """The bus and the time of one edge."""

    def __init__(self, name: str = EDGE) -> None:
        self.name = name
        self.seconds = 0.0
        self.ms = 0
        self.published: list[tuple[str, bytes, str]] = []
        self.counted: list[Counted] = []
        self.claims: list[Counted] = []

    def now(self) -> float:
        return self.seconds

    def clock(self) -> int:
        return self.ms

    def publish(self, subject: str, payload: bytes, reply: str = "") -> bool:
        self.published.append((subject, payload, reply))
        return True

    def delivered(self, direction: Direction, first: int, sizes: list[int], *, late: bool = False) -> None:
        self.counted.append(Counted(direction, first, sizes, late))

    def claimed(self, direction: Direction, first: int, sizes: list[int]) -> None:
        self.claims.append(Counted(direction, first, sizes))

    def pop_claims(self) -> list[tuple[int, list[int]]]:
        """Return number and sizes of what was claimed since the last call."""
        claims, self.claims = self.claims, []
        return [(each.first, each.sizes) for each in claims]

    def pop_published(self) -> list[tuple[str, bytes, str]]:
        """Return what was published since the last call."""
        published, self.published = self.published, []
        return published


class FakeMatches:
    """The registry: which match asked for what."""

    def __init__(self) -> None:
        self.added: list[Match] = []
        self.watched: list[Match] = []
        self.unsettled: list[Match] = []
        self.remembering: list[Match] = []
        self.lingering: list[Match] = []
        self.removed: list[Match] = []
        self.awaiting: list[Match] = []

    def add(self, match: Match) -> None:
        self.added.append(match)

    def earlier(self, prefix: str, connection_id: int) -> Match | None:
        return next((m for m in self.added if (m.prefix, m.connection_id) == (prefix, connection_id)), None)

    def watch(self, match: Match) -> None:
        self.watched.append(match)

    def settle_soon(self, match: Match) -> None:
        self.unsettled.append(match)

    def remember(self, match: Match) -> None:
        self.remembering.append(match)

    def linger(self, match: Match) -> None:
        self.lingering.append(match)

    def await_peer(self, match: Match) -> None:
        self.awaiting.append(match)

    def remove(self, match: Match) -> None:
        self.removed.append(match)


class FakeMatchmaking:
    """match-engine: what was asked of it, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def seek(self, device: Device) -> None:
        self.calls.append("seek")

    def leave_match(self, device: Device, match: Match) -> None:
        self.calls.append(f"leave_match {match.number}")

    def verify(self, device: Device) -> None:
        self.calls.append("verify")

    def rejoin(self, device: Device) -> None:
        self.calls.append("rejoin")

    def forget(self, device: Device) -> None:
        self.calls.append("forget")


class FakeSocket:
    """A socket that keeps what was written."""

    def __init__(self) -> None:
        self.reading = self.writable = True
        self.overfull = False
        self.taken = True
        self.written: list[SocketFrame] = []
        self.closed: CloseCode | None = None
        self.resumed = 0

    def write(self, frames: Sequence[SocketFrame]) -> None:
        self.written.extend(frames)

    def host_took_all(self) -> bool:
        return self.taken

    def resume_reading(self) -> None:
        self.resumed += 1

    def close(self, code: CloseCode, reason: str) -> None:
        self.closed = code

    def pop_texts(self) -> list[str]:
        """Return the texts written since the last call."""
        written, self.written = self.written, []
        return [data.decode() for is_text, data in written if is_text]


class FakeOwner:
    """A device, as its match sees it."""

    def __init__(self, dialect: Dialect | None = None) -> None:
        self.who = Parameters(DEVICE, 0, 0, APP)
        self.connection_id = CONNECTION
        self.dialect = dialect or v1()
        self.socket = FakeSocket()
        self.disconnected = False
        self.replaced = False
        self.names_match = False
        self.acks_readable = True
        self.superseded_by: tuple[int, str] | None = None
        self.resyncs = self.left_match = 0

    def write(self, frames: Sequence[SocketFrame]) -> None:
        self.socket.write(frames)

    def resync(self) -> None:
        self.resyncs += 1

    def leave_match(self) -> None:
        self.left_match += 1

    def supersede(self, connection_id: int, edge: str) -> None:
        self.superseded_by = connection_id, edge
        self.replaced = True


def v1(max_payload: int = 262_144) -> V1:
    """A dialect that acknowledges."""
    return V1(Welcome(DEVICE, "session", "token", 30, max_payload))


def classic() -> Classic:
    """A dialect that does not."""
    return Classic(EDGE)


def paired(
    match: int = 5,
    *,
    peer: str = PEER,
    met: int = CONNECTION,
    connection: int = CONNECTION,
    peer_edge: str = PEER_EDGE,
    peer_connection: int = PEER_CONNECTION,
    peer_away: bool = False,
    peer_revision: int = 0,
    previous: tuple[int, str] = (0, ""),
) -> DevicePaired:
    """The answer that a device is in a match; `met` is its connection when it was matched."""
    return DevicePaired(
        connection_id=connection,
        match=match,
        peer=peer,
        distance=12.5,
        matched_connection_id=met,
        peer_edge=peer_edge,
        peer_connection_id=peer_connection,
        peer_away=peer_away,
        peer_revision=peer_revision,
        previous_connection_id=previous[0],
        previous_edge=previous[1],
    )


def batch(
    seq: int, payloads: Sequence[Payload], *, match: int = 5, edge: str = PEER_EDGE, peer: str = PEER
) -> tuple[subjects.ReplyAddress, bytes]:
    """Address and payload of a batch of the peer."""
    shape, payload = join(payloads)
    address = subjects.parse_reply(f"{subjects.ack_prefix(APP, edge, peer, match)}{seq}.{shape}")
    assert address is not None
    return address, payload


def texts(*words: str) -> list[Payload]:
    """Text payloads."""
    return [(True, word.encode()) for word in words]
