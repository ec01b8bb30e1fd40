"""What is said on the bus besides frames: facts, pairing requests and answers, and the records in KV.

All travel as JSON with a ``type``, so that ``nats sub`` shows them readable. Evolution: fields are only
added, with defaults; none is renamed, none changes its type. Times are milliseconds since 1970, UTC.

A match is named by one number, its epoch: the revision at which the younger of its two devices began
to wait. Epochs only grow, for each device and over the life of the bus, so a frame of an earlier match
is known by its number alone.
"""

from collections.abc import Callable
from typing import Literal

import msgspec


class Fact(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Something that happened. Published once to the stream EVENTS, on ``ev.<kind>.<device>``."""

    app: str
    at: int  # ms since 1970

    @property
    def primary_device(self) -> str:
        """The device that the fact's subject names."""
        raise NotImplementedError

    @property
    def devices(self) -> tuple[str, ...]:
        """All devices that took part."""
        return (self.primary_device,)

    @property
    def kind(self) -> str:
        """The ``type`` in JSON and the kind in the subject."""
        return str(self.__struct_config__.tag)


class DeviceConnected(Fact, frozen=True, kw_only=True, tag="connected"):
    """A device's socket was accepted by an edge."""

    device: str
    edge: str
    connection_id: int = msgspec.field(name="session")
    lat: float
    lon: float
    radius: float | None = None  # metres
    tag: str | None = None

    @property
    def primary_device(self) -> str:
        return self.device


class DeviceLeft(Fact, frozen=True, kw_only=True, tag="left"):
    """A device's socket ended."""

    device: str
    edge: str
    connection_id: int = msgspec.field(name="session")
    code: int  # close code

    @property
    def primary_device(self) -> str:
        return self.device


class MatchMade(Fact, frozen=True, kw_only=True, tag="matched"):
    """Two devices were paired. `device` began to wait later than `peer`."""

    match: int
    device: str
    peer: str
    distance: float  # metres

    @property
    def primary_device(self) -> str:
        return self.device

    @property
    def devices(self) -> tuple[str, ...]:
        return (self.device, self.peer)


class MatchEnded(Fact, frozen=True, kw_only=True, tag="unmatched"):
    """A match is over. `device` is the one whose going ended it."""

    match: int
    device: str
    peer: str
    reason: str

    @property
    def primary_device(self) -> str:
        return self.device

    @property
    def devices(self) -> tuple[str, ...]:
        return (self.device, self.peer)


class PayloadsDelivered(Fact, frozen=True, kw_only=True, tag="delivered"):
    """Payloads reached the peer, in order, each for the first time. One size for each payload."""

    match: int
    sender: str
    receiver: str
    sizes: list[int]  # bytes

    @property
    def primary_device(self) -> str:
        return self.sender

    @property
    def devices(self) -> tuple[str, ...]:
        return (self.sender, self.receiver)


class AmountReported(Fact, frozen=True, kw_only=True, tag="reported"):
    """A 2019 client reported an amount about a device by REST."""

    device: str
    event_type: Literal["connectionsOpen", "bytesSent"] = msgspec.field(name="eventType")
    amount: int

    @property
    def primary_device(self) -> str:
        return self.device


AnyFact = DeviceConnected | DeviceLeft | MatchMade | MatchEnded | PayloadsDelivered | AmountReported


class Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What an edge asks of match-engine, on ``match.<cellpart>.<device>``."""

    app: str
    device: str
    edge: str
    # µs since 1970 when the socket was accepted: of two connections with one id, the larger is the newer
    connection_id: int = msgspec.field(name="session")


class SeekPartner(Request, frozen=True, kw_only=True, tag="seek"):
    """Put the device into the pool, or say again what it is: asked once, and after any doubt.

    With `resume`, a connection goes on where the one before it with the same `token` stopped.
    """

    lat: float
    lon: float
    radius: float | None = None  # metres; None: the planar rule of 2019
    tag: str | None = None
    location_version: int = msgspec.field(default=0, name="place")  # how often the device has moved
    incarnation: int = msgspec.field(default=0, name="start")  # µs since 1970 when the edge's process started
    grace: float = 0.0  # s for which the device may be away; 0: when its connection drops it has left
    token: str = ""  # of the session, which outlives its connections; "": it does not
    resume: bool = False


class StepAway(Request, frozen=True, kw_only=True, tag="away"):
    """The connection is not there (any more). Its device may return within its grace; without one it has
    left."""

    may_have_sent: bool = msgspec.field(default=True, name="began")  # payloads


class LeaveMatch(Request, frozen=True, kw_only=True, tag="unmatch"):
    """End this match; both wait again, but not for each other."""

    match: int


class LeavePool(Request, frozen=True, kw_only=True, tag="leave"):
    """Take the device out; its match, if it has one, ends.

    `match` and `peer` are what the edge believes it to be in: asked again, it tells what is left to do.
    """

    reason: str = "left"
    match: int | None = None
    peer: str | None = None


AnyRequest = SeekPartner | StepAway | LeaveMatch | LeavePool


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What match-engine answers, and what it tells an edge unasked on ``ctl.<edge>.<device>``."""

    connection_id: int = msgspec.field(name="session")


class DeviceWaiting(Answer, frozen=True, kw_only=True, tag="waiting"):
    """The device waits, since this revision: any match with a smaller number is over."""

    since: int


class DevicePaired(Answer, frozen=True, kw_only=True, tag="paired"):
    """The device is in this match."""

    match: int
    peer: str
    distance: float  # metres
    matched_connection_id: int = msgspec.field(default=0, name="met")  # the device's, when it was matched
    peer_edge: str = ""
    peer_connection_id: int = msgspec.field(default=0, name="peer_session")
    peer_away: bool = False
    # the device's last connection before this one that may have sent payloads; 0: none
    previous_connection_id: int = msgspec.field(default=0, name="prior")
    previous_edge: str = msgspec.field(default="", name="prior_edge")


class PeerAway(Answer, frozen=True, kw_only=True, tag="peer_away"):
    """The connection `peer_connection_id` of the peer is gone; its grace runs."""

    match: int
    peer_connection_id: int = msgspec.field(name="peer_session")


class PeerReturned(Answer, frozen=True, kw_only=True, tag="peer_back"):
    """The peer has a connection, its newest, on this edge."""

    match: int
    peer_edge: str
    peer_connection_id: int = msgspec.field(name="peer_session")


class DeviceUnpaired(Answer, frozen=True, kw_only=True, tag="unpaired"):
    """The device's match is over; it waits again. `reason`: left, unmatched, expired or replaced."""

    match: int
    reason: str


class DeviceReplaced(Answer, frozen=True, kw_only=True, tag="replaced"):
    """A newer connection has taken the device's id.

    In an answer: if the asking connection is the one that came last, though to an edge whose clock is
    behind, it may ask again with a session above `by`.
    """

    by: int = 0  # session of the newer one; 0: not known
    edge: str = ""  # that holds it


class DeviceGone(Answer, frozen=True, kw_only=True, tag="gone"):
    """The device is not in the pool (any more)."""


AnyAnswer = (
    DeviceWaiting | DevicePaired | PeerAway | PeerReturned | DeviceUnpaired | DeviceReplaced | DeviceGone
)


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far one end of a match is, told to the other end after either has changed its edge.

    Travels on the subject of acks, with the shape `subjects.POSITION`. Whoever hears a question answers.
    Payloads are numbered from 0, for each direction.
    """

    edge: str  # that tells
    connection_id: int = msgspec.field(name="session")  # of the connection that it tells of
    next: int  # number of the payload expected next
    delivered: int = msgspec.field(
        name="taken"
    )  # all payloads before this number have been delivered to the device
    base: int | None = None  # all from here on can be sent again; None: that depends on your answer
    to: int = 0  # answers the question of this session; 0: is a question


class DeviceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A device in the bucket, under ``dev.<app>.<device>``: waiting, in a match, or away."""

    app: str
    device: str
    edge: str
    connection_id: int = msgspec.field(name="session")
    lat: float
    lon: float
    radius: float | None = None  # metres
    tag: str | None = None
    match: int | None = None
    peer: str | None = None
    distance: float | None = None  # metres
    location_version: int = msgspec.field(default=0, name="place")
    incarnation: int = msgspec.field(default=0, name="start")  # of the edge's process
    grace: float = 0.0  # s
    token: str = ""
    matched_connection_id: int = msgspec.field(default=0, name="met")  # its connection when it was matched
    may_have_sent: bool = msgspec.field(default=True, name="began")  # whether this connection sent payloads
    previous_connection_id: int = msgspec.field(
        default=0, name="prior"
    )  # the last before it that may have sent
    previous_edge: str = msgspec.field(default="", name="prior_edge")
    disconnected_at: int | None = msgspec.field(default=None, name="away")  # ms since 1970; None: connected
    last_peer: str | None = msgspec.field(
        default=None, name="former"
    )  # not its peer again before another was
    closed: bool = False  # its connection is over, the edge said so: only a newer one brings it back


class PairRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A match in the bucket, under ``pair.<app>.<match>``."""

    app: str
    match: int
    device: str
    peer: str
    at: int  # ms since 1970
    distance: float = 0.0  # metres


class Tombstone(msgspec.Struct, frozen=True, kw_only=True):
    """What is left for a while where a device's record was: which connection has gone, and what it left.

    Also where a match was, of the device that ended it: what may be left to do when a worker died.
    """

    app: str
    device: str
    edge: str
    connection_id: int = msgspec.field(name="session")
    match: int | None = None  # which ended with it
    peer: str | None = None
    reason: str = "left"
    pair: PairRecord | None = msgspec.field(
        default=None, name="made"
    )  # the match, of which perhaps no fact says yet that it was made


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """A process lives, or is about to leave."""

    role: str  # edge or worker
    name: str  # of this process; no other has it, and no other worker had it
    leaving: bool = False
    incarnation: int = msgspec.field(default=0, name="start")  # µs since 1970 when the process started


encode: Callable[[object], bytes] = msgspec.json.Encoder().encode
decode_fact: Callable[[bytes], AnyFact] = msgspec.json.Decoder(AnyFact).decode
decode_request: Callable[[bytes], AnyRequest] = msgspec.json.Decoder(AnyRequest).decode
decode_answer: Callable[[bytes], AnyAnswer] = msgspec.json.Decoder(AnyAnswer).decode
decode_device: Callable[[bytes], DeviceRecord] = msgspec.json.Decoder(DeviceRecord).decode
decode_tombstone: Callable[[bytes], Tombstone] = msgspec.json.Decoder(Tombstone).decode
decode_pair: Callable[[bytes], PairRecord] = msgspec.json.Decoder(PairRecord).decode
decode_heartbeat: Callable[[bytes], Heartbeat] = msgspec.json.Decoder(Heartbeat).decode
decode_position: Callable[[bytes], Position] = msgspec.json.Decoder(Position).decode
