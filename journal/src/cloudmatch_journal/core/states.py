"""What facts fold into: the states of devices and matches, and the snapshot that keeps them."""

import msgspec

from cloudmatch_journal.core import coverage
from cloudmatch_journal.core.claims import PendingClaim
from cloudmatch_journal.core.erasure import Erasure

VERSION = 3  # of the rules: a snapshot saved under other rules is discarded, and the facts are folded again
UNNUMBERED = 2  # the last version whose facts counted payloads without their numbers


class DeviceState(msgspec.Struct, kw_only=True):
    """The state of one device."""

    app: str
    device: str
    connection_id: int = msgspec.field(default=0, name="session")  # of the newest connection
    connected: bool = False  # whether that connection is open
    connections_reported: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    matches: int = 0
    last_seen: int = 0  # ms since 1970, as the last fact about it says

    @property
    def connections_open(self) -> int:
        """Connections open now: the device's own, and those reported by 2019 clients."""
        return int(self.connected) + self.connections_reported


class Direction(msgspec.Struct, kw_only=True):
    """What one device of a match sent to the other."""

    sender: str
    receiver: str
    payloads: int = 0
    bytes: int = 0
    counted: list[int] = []  # the payloads of all spans (`coverage.Numbers`)
    unnumbered: bool = False  # others were counted without their numbers
    settled: int = 0  # payloads before this number were delivered, and whoever knew their sizes has said so
    unaccounted: int = 0  # of them not counted
    awaited: int = 0  # once payloads before this number are counted, a claim is not pending any more; 0: none


class MatchState(msgspec.Struct, kw_only=True):
    """The state of one match."""

    match: int
    app: str
    devices: tuple[str, str]
    distance: float | None = None  # metres
    made_at: int | None = None  # ms since 1970
    ended_at: int | None = None
    ended_by: str | None = None  # the device that ended it
    reason: str | None = None
    position: int = 0  # of the last fact about it
    directions: list[Direction] = msgspec.field(name="ways")


class Loss(msgspec.Struct, kw_only=True, frozen=True):
    """Facts that the journal does not have."""

    low: int  # position
    high: int  # position
    missing: int | None  # at most; None: unknown
    reason: str


class Snapshot(msgspec.Struct, kw_only=True):
    """A ledger as it is saved."""

    version: int = VERSION
    position: int = 0
    devices: list[DeviceState] = []
    matches: list[MatchState] = []
    claims: list[PendingClaim] = []
    repeated: int = 0  # payloads that facts counted again
    unaccounted: int = 0  # payloads
    reports: dict[str, coverage.Numbers] = {}  # that are folded, by source and incarnation
    losses: list[Loss] = []
    erasures: list[Erasure] = []  # that segments have yet to follow


class _Position(msgspec.Struct):
    position: int


def snapshot_position(saved: bytes) -> int:
    """Return the position of the last event in a snapshot."""
    return msgspec.json.decode(saved, type=_Position).position
