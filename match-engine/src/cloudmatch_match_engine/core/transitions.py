"""Steps from one state of a device's record to the next."""

from msgspec.structs import replace

from cloudmatch_bus.contract import resume_tokens
from cloudmatch_bus.contract.messages import (
    DeviceRecord,
    PairRecord,
    Request,
    SeekPartner,
    StepAway,
    Tombstone,
)

# Anything that names one connection of a device.
Connection = DeviceRecord | Tombstone | Request


def is_same(a: Connection, b: Connection) -> bool:
    """Whether two messages name the same connection of a device."""
    return (a.connection_id, a.edge) == (b.connection_id, b.edge)


def is_newer(a: Connection, b: Connection) -> bool:
    """Whether `a` names a newer connection of the same device than `b`."""
    return (a.connection_id, a.edge) > (b.connection_id, b.edge)


def new_record(request: SeekPartner) -> DeviceRecord:
    """Make the record of a device that enters the pool."""
    return DeviceRecord(
        app=request.app,
        device=request.device,
        edge=request.edge,
        connection_id=request.connection_id,
        lat=request.lat,
        lon=request.lon,
        radius=request.radius,
        tag=request.tag,
        location_version=request.location_version,
        incarnation=request.incarnation,
        grace=request.grace,
        token=request.token,
    )


def announced(record: DeviceRecord, request: SeekPartner) -> DeviceRecord:
    """Update a record from a repeated request of its own connection: connected, perhaps at a new location."""
    new = replace(record, incarnation=request.incarnation, disconnected_at=None)
    if request.location_version > record.location_version:
        return replace(new, location_version=request.location_version, lat=request.lat, lon=request.lon)
    return new


def resumes(record: DeviceRecord, request: SeekPartner) -> bool:
    """Whether a newer connection resumes the session of this record."""
    return request.resume and resume_tokens.same(request.token, record.token)


def resumed(record: DeviceRecord, request: SeekPartner) -> DeviceRecord:
    """Hand the session, with its match, to a newer connection at its location."""
    previous_connection_id, previous_edge = _last_sender(record)
    return replace(
        record,
        edge=request.edge,
        connection_id=request.connection_id,
        incarnation=request.incarnation,
        may_have_sent=True,
        previous_connection_id=previous_connection_id,
        previous_edge=previous_edge,
        location_version=request.location_version,
        lat=request.lat,
        lon=request.lon,
        radius=request.radius,
        tag=request.tag,
        grace=request.grace,
        disconnected_at=None,
        closed=False,
    )


def paired(record: DeviceRecord, peer: DeviceRecord, match: int, metres: float) -> DeviceRecord:
    """Put a device into a match."""
    return replace(
        record,
        match=match,
        peer=peer.device,
        distance=metres,
        matched_connection_id=record.connection_id,
        may_have_sent=True,
        previous_connection_id=0,
        previous_edge="",
        last_peer=None,
    )


def pair_of(
    record: DeviceRecord, peer: DeviceRecord, match: int, metres: float, now: int, nonce: str
) -> PairRecord:
    """Make the record of a match of two devices, made at `now` (ms since 1970)."""
    return PairRecord(
        app=record.app,
        match=match,
        device=record.device,
        peer=peer.device,
        at=now,
        distance=metres,
        nonce=nonce,
    )


def unmatched(record: DeviceRecord, last_peer: str | None = None) -> DeviceRecord:
    """Take a device out of its match; it is not matched with `last_peer` again before another."""
    return replace(record, match=None, peer=None, distance=None, matched_connection_id=0, last_peer=last_peer)


def disconnected(record: DeviceRecord, now: int) -> DeviceRecord:
    """Start a device's grace at `now` (ms), unless it runs already."""
    return replace(record, disconnected_at=now if record.disconnected_at is None else record.disconnected_at)


def _last_sender(record: DeviceRecord) -> tuple[int, str]:
    """Return the newest connection that may have sent payloads, and its edge."""
    return (
        (record.connection_id, record.edge)
        if record.may_have_sent
        else (record.previous_connection_id, record.previous_edge)
    )


def closed(record: DeviceRecord, connection: StepAway, now: int) -> DeviceRecord:
    """Mark the device's newest connection as over; its grace starts."""
    if connection.connection_id == record.connection_id:
        new = replace(record, closed=True, may_have_sent=connection.may_have_sent)
    else:  # its request to enter never arrived
        previous_connection_id, previous_edge = _last_sender(record)
        new = replace(
            record,
            edge=connection.edge,
            connection_id=connection.connection_id,
            closed=True,
            may_have_sent=False,
            previous_connection_id=previous_connection_id,
            previous_edge=previous_edge,
        )
    return disconnected(new, now)


def tombstone_of(connection: DeviceRecord | Request, reason: str) -> Tombstone:
    """Make the tombstone of a connection, naming the match that ends with it."""
    return Tombstone(
        app=connection.app,
        device=connection.device,
        edge=connection.edge,
        connection_id=connection.connection_id,
        match=getattr(connection, "match", None),
        peer=getattr(connection, "peer", None),
        reason=reason,
    )
