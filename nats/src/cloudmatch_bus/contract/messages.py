"""JSON messages on the bus: facts, pairing requests and answers, records of the bucket, heartbeats.

Each has a ``type`` where several kinds share a subject, so that ``nats sub`` shows them readable. Fields are
only added, with defaults; none is renamed, none changes its type. Times are ms since 1970, UTC.

A match is named by one number: the revision at which the younger of its two devices began to wait. These
numbers only grow, for each device and over the life of the bus, so that a payload of an earlier match is
recognized by its number alone.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from cloudmatch_bus.contract.bounds import (
    Amount,
    Count,
    Latitude,
    Longitude,
    Metres,
    Number,
    Seconds,
    Size,
    Time,
)
from cloudmatch_bus.contract.deliveries import Claim, Span
from cloudmatch_bus.contract.fact import DeviceForgotten as DeviceForgotten
from cloudmatch_bus.contract.fact import Fact as Fact
from cloudmatch_bus.contract.fact import FactsLost as FactsLost


class DeviceConnected(Fact, frozen=True, kw_only=True, tag="connected"):
    """An edge accepted a connection of a device."""

    device: str
    edge: str
    connection_id: Number = msgspec.field(name="session")
    lat: Latitude
    lon: Longitude
    radius: Metres | None = None  # metres
    tag: str | None = None

    @property
    def primary_device(self) -> str:
        return self.device


class DeviceLeft(Fact, frozen=True, kw_only=True, tag="left"):
    """A connection of a device ended."""

    device: str
    edge: str
    connection_id: Number = msgspec.field(name="session")
    code: Annotated[int, Meta(ge=0, le=65535)]  # close code

    @property
    def primary_device(self) -> str:
        return self.device


class MatchMade(Fact, frozen=True, kw_only=True, tag="matched"):
    """Two devices were matched; `device` began to wait later than `peer`."""

    match: Number
    device: str
    peer: str
    distance: Metres  # metres, as devices are told; 0: they are not

    @property
    def primary_device(self) -> str:
        return self.device

    @property
    def devices(self) -> tuple[str, ...]:
        return (self.device, self.peer)


class MatchEnded(Fact, frozen=True, kw_only=True, tag="unmatched"):
    """A match ended; `device` is the one that ended it."""

    match: Number
    device: str
    peer: str
    reason: str

    @property
    def primary_device(self) -> str:
        return self.device

    @property
    def devices(self) -> tuple[str, ...]:
        return (self.device, self.peer)


class Batch(Fact, frozen=True, kw_only=True):
    """A fact about many devices of one app, named for ever by its first three fields."""

    source: str  # an edge, or the journal
    incarnation: Number = msgspec.field(name="start")  # µs since 1970 when the source's process started
    number: Number  # of this batch among the source's, from 1

    @property
    def primary_device(self) -> str:
        return self.source  # in place of a device


class DeliveriesCounted(Batch, frozen=True, kw_only=True, tag="deliveries"):
    """Payloads were delivered, in one slice of 10 s; no other fact counts them."""

    spans: Annotated[list[Span], Meta(min_length=1)]

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(device for s in self.spans for device in (s.sender, s.receiver)))


class DeliveriesClaimed(Batch, frozen=True, kw_only=True, tag="claimed"):
    """Payloads were delivered, and may have been counted: the journal counts those that were not."""

    claims: Annotated[list[Claim], Meta(min_length=1)]

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(device for c in self.claims for device in (c.sender, c.receiver)))


class PayloadsDelivered(Fact, frozen=True, kw_only=True, tag="delivered"):
    """Payloads were delivered to the peer, in order, each once; `sizes` has one entry for each.

    Edges of earlier versions publish it; the journal shows every span of `DeliveriesCounted` as one.
    """

    match: Number
    sender: str
    receiver: str
    sizes: list[Size]  # bytes

    @property
    def primary_device(self) -> str:
        return self.sender

    @property
    def devices(self) -> tuple[str, ...]:
        return (self.sender, self.receiver)


class AmountReported(Fact, frozen=True, kw_only=True, tag="reported"):
    """A client of 2019 reported an amount about a device by REST; numbered as a `Batch` is."""

    device: str
    event_type: Literal["connectionsOpen", "bytesSent"] = msgspec.field(name="eventType")
    amount: Amount
    source: str = ""  # the journal's reports
    incarnation: Number = msgspec.field(default=0, name="start")  # µs since 1970 when its process started
    number: Number = 0  # of this report among its reports, from 1; 0: unknown

    @property
    def primary_device(self) -> str:
        return self.device


AnyFact = (
    DeviceConnected
    | DeviceLeft
    | MatchMade
    | MatchEnded
    | DeliveriesCounted
    | DeliveriesClaimed
    | PayloadsDelivered
    | AmountReported
    | DeviceForgotten
    | FactsLost
)


class Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """A request of an edge to match-engine, on ``match.<cellpart>.<device>``."""

    app: str
    device: str
    edge: str
    connection_id: Number = msgspec.field(name="session")  # µs since 1970 when asked for: larger is newer
    patience: Seconds = 2.0  # s for which the edge waits for the answer


class SeekPartner(Request, frozen=True, kw_only=True, tag="seek"):
    """Put the device into the pool, or report its current state; repeated while the outcome is unknown.

    With `resume`, the connection continues the session of the previous connection with the same `token`.
    """

    lat: Latitude
    lon: Longitude
    radius: Metres | None = None  # metres; None: the planar rule of 2019
    tag: str | None = None
    location_version: Number = msgspec.field(default=0, name="place")  # how often the device has moved
    # µs since 1970 when the edge's process started
    incarnation: Number = msgspec.field(default=0, name="start")
    grace: Seconds = 0.0  # s for which the device may be disconnected; 0: it leaves when its connection ends
    token: str = ""  # its hash (`resume_tokens`); "": there is no session to resume
    resume: bool = False


class StepAway(Request, frozen=True, kw_only=True, tag="away"):
    """The connection has ended. Its device may return within its grace; without grace it has left."""

    may_have_sent: bool = msgspec.field(default=True, name="began")  # payloads


class LeaveMatch(Request, frozen=True, kw_only=True, tag="unmatch"):
    """End this match; both devices wait again, but not for each other."""

    match: Number
    silent: bool = False  # no device has asked for it: no payload came for too long


class LeavePool(Request, frozen=True, kw_only=True, tag="leave"):
    """Remove the device, and end its match; `match` and `peer`, the edge's view, show what is left to do."""

    reason: str = "left"
    match: Number | None = None
    peer: str | None = None


AnyRequest = SeekPartner | StepAway | LeaveMatch | LeavePool


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """An answer of match-engine, or an update it sends to an edge on ``ctl.<edge>.<device>``."""

    connection_id: Number = msgspec.field(name="session")


class DeviceWaiting(Answer, frozen=True, kw_only=True, tag="waiting"):
    """The device has been waiting since this revision: any match with a smaller number has ended."""

    since: Number


class DevicePaired(Answer, frozen=True, kw_only=True, tag="paired"):
    """The device is in this match."""

    match: Number
    peer: str
    distance: Metres  # metres, as devices are told; 0: they are not
    matched_connection_id: Number = msgspec.field(default=0, name="met")  # the device's, when it was matched
    peer_edge: str = ""
    peer_connection_id: Number = msgspec.field(default=0, name="peer_session")
    peer_away: bool = False
    # its last connection before this one that may have sent payloads; 0: none
    previous_connection_id: Number = msgspec.field(default=0, name="prior")
    previous_edge: str = msgspec.field(default="", name="prior_edge")
    peer_revision: Number = 0  # of its record: what is said of it at a larger one is later; 0: unknown


class PeerAway(Answer, frozen=True, kw_only=True, tag="peer_away"):
    """The peer's connection `peer_connection_id` has ended; its grace runs."""

    match: Number
    peer_connection_id: Number = msgspec.field(name="peer_session")
    peer_revision: Number = 0  # as in `DevicePaired`


class PeerReturned(Answer, frozen=True, kw_only=True, tag="peer_back"):
    """The peer has a new connection, on `peer_edge`."""

    match: Number
    peer_edge: str
    peer_connection_id: Number = msgspec.field(name="peer_session")
    peer_revision: Number = 0  # as in `DevicePaired`


class DeviceUnpaired(Answer, frozen=True, kw_only=True, tag="unpaired"):
    """The device's match ended and it waits again; `reason` is left, unmatched, expired or replaced."""

    match: Number
    reason: str


class DeviceReplaced(Answer, frozen=True, kw_only=True, tag="replaced"):
    """A newer connection has taken over the device's id.

    As an answer: if the client asked later for this one, its edge may repeat that with an id above `by`.
    """

    by: Number = 0  # id of the newer connection; 0: unknown
    edge: str = ""  # that holds the newer connection
    age: Seconds | None = None  # s for which the worker has known the newer connection; None: it cannot say


class DeviceGone(Answer, frozen=True, kw_only=True, tag="gone"):
    """The device is unknown: it has left, or was never in the pool."""


AnyAnswer = (
    DeviceWaiting | DevicePaired | PeerAway | PeerReturned | DeviceUnpaired | DeviceReplaced | DeviceGone
)


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far one end of a match has got, exchanged by both ends after either has changed its edge.

    Sent on the subject of acks, with the shape `subjects.POSITION`. Payloads are numbered from 0 each way.
    """

    edge: str  # the sender
    connection_id: Number = msgspec.field(name="session")  # whose position this is
    next: Number  # number of the payload expected next
    delivered: Number = msgspec.field(name="taken")  # all payloads before this number were delivered
    base: Number | None = None  # payloads from here on can be retransmitted; None: depends on the answer
    to: Number = 0  # the connection whose question this answers; 0: this is a question
    sent: Number | None = None  # payloads that its device has sent in this match, at most; None: not known


class DeviceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A device in the bucket, under ``dev.<app>.<device>``: waiting or matched, connected or disconnected."""

    app: str
    device: str
    edge: str
    connection_id: Number = msgspec.field(name="session")
    lat: Latitude
    lon: Longitude
    radius: Metres | None = None  # metres
    tag: str | None = None
    match: Number | None = None
    peer: str | None = None
    distance: Metres | None = None  # metres
    location_version: Number = msgspec.field(default=0, name="place")
    incarnation: Number = msgspec.field(default=0, name="start")  # of the edge's process
    grace: Seconds = 0.0  # s
    token: str = ""
    matched_connection_id: Number = msgspec.field(default=0, name="met")  # its connection when it was matched
    may_have_sent: bool = msgspec.field(default=True, name="began")  # payloads, by this connection
    previous_connection_id: Number = msgspec.field(default=0, name="prior")  # as in `DevicePaired`
    previous_edge: str = msgspec.field(default="", name="prior_edge")
    disconnected_at: Time | None = msgspec.field(default=None, name="away")  # ms since 1970; None: connected
    # the peer it unmatched from: not matched with it again before it had another
    last_peer: str | None = msgspec.field(default=None, name="former")
    closed: bool = False  # the edge reported the end of its connection: only a newer one can return


class PairRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A match in the bucket, under ``pair.<app>.<match>``."""

    app: str
    match: Number
    device: str
    peer: str
    at: Time  # ms since 1970
    distance: Metres = 0.0  # metres
    nonce: str = ""  # in the message ids of its two facts, a half in each: only workers can use these ids


class Tombstone(msgspec.Struct, frozen=True, kw_only=True):
    """What a deleted record leaves for a while: which connection of which device left, and its match.

    A deleted pair leaves one of the device that ended it. Both show what is left to do if a worker died.
    """

    app: str
    device: str
    edge: str
    connection_id: Number = msgspec.field(name="session")
    match: Number | None = None  # the match that ended with it
    peer: str | None = None
    reason: str = "left"
    pair: PairRecord | None = msgspec.field(default=None, name="made")  # that ended, if perhaps unpublished


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """A process is alive, or about to stop. Only the first four fields decide; all are shown (`cluster`)."""

    role: str  # edge or worker
    name: str  # unique among running processes; a worker's was never used before
    leaving: bool = False
    incarnation: Number = msgspec.field(default=0, name="start")  # µs since 1970 when the process started
    version: str = ""  # of its distribution; "": of a process that does not say
    draining: bool = False  # it accepts nothing new
    devices: Count = 0  # connected to this edge, or in this worker's mirror
    max_devices: Count = 0  # that this edge accepts; 0: unlimited
    partitions: Count = 0  # that this worker serves
    load: Annotated[float, Meta(ge=0)] = 0.0  # CPU time since its last heartbeat, as a share of one core


encode: Callable[[object], bytes] = msgspec.json.Encoder().encode
decode_fact: Callable[[bytes], AnyFact] = msgspec.json.Decoder(AnyFact).decode
decode_request: Callable[[bytes], AnyRequest] = msgspec.json.Decoder(AnyRequest).decode
decode_answer: Callable[[bytes], AnyAnswer] = msgspec.json.Decoder(AnyAnswer).decode
decode_device: Callable[[bytes], DeviceRecord] = msgspec.json.Decoder(DeviceRecord).decode
decode_tombstone: Callable[[bytes], Tombstone] = msgspec.json.Decoder(Tombstone).decode
decode_pair: Callable[[bytes], PairRecord] = msgspec.json.Decoder(PairRecord).decode
decode_heartbeat: Callable[[bytes], Heartbeat] = msgspec.json.Decoder(Heartbeat).decode
decode_position: Callable[[bytes], Position] = msgspec.json.Decoder(Position).decode
