"""What becomes of a device's record: pure steps from one to the next, and what is said of it."""

from msgspec.structs import replace

from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    DeviceGone,
    DevicePaired,
    DeviceRecord,
    DeviceReplaced,
    DeviceWaiting,
    Request,
    SeekPartner,
    StepAway,
    Tombstone,
)


def age(connection: DeviceRecord | Tombstone | Request) -> tuple[int, str]:
    """Order connections of one id: the larger is the newer; equal are the same."""
    return connection.connection_id, connection.edge


def waiting(request: SeekPartner) -> DeviceRecord:
    """Make the record of a device that begins to wait."""
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
    """The same connection says again what it is: it is there, and perhaps elsewhere."""
    new = replace(record, incarnation=request.incarnation, disconnected_at=None)
    if request.location_version > record.location_version:
        return replace(new, location_version=request.location_version, lat=request.lat, lon=request.lon)
    return new


def resumes(record: DeviceRecord, request: SeekPartner) -> bool:
    """Whether a newer connection goes on where this one stopped."""
    return request.resume and request.token == record.token != ""


def resumed(record: DeviceRecord, request: SeekPartner) -> DeviceRecord:
    """A newer connection takes the session over, with its match. It names the newest place."""
    prior, previous_edge = _behind(record)
    return replace(
        record,
        edge=request.edge,
        connection_id=request.connection_id,
        incarnation=request.incarnation,
        may_have_sent=True,
        previous_connection_id=prior,
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


def again(record: DeviceRecord, last_peer: str | None = None) -> DeviceRecord:
    """Make the record of a device whose match is over; it is not to meet `last_peer` again at once."""
    return replace(record, match=None, peer=None, distance=None, matched_connection_id=0, last_peer=last_peer)


def left_alone(record: DeviceRecord, now: int) -> DeviceRecord:
    """The device has no connection, since `now` (ms)."""
    return replace(record, disconnected_at=now if record.disconnected_at is None else record.disconnected_at)


def _behind(record: DeviceRecord) -> tuple[int, str]:
    """The last connection that may have sent payloads, as a newer one has it before it."""
    return (
        (record.connection_id, record.edge)
        if record.may_have_sent
        else (record.previous_connection_id, record.previous_edge)
    )


def closed(record: DeviceRecord, connection: StepAway, now: int) -> DeviceRecord:
    """This connection, the newest, is over: it will not be heard of again."""
    if connection.connection_id == record.connection_id:
        new = replace(record, closed=True, may_have_sent=connection.may_have_sent)
    else:  # its request to enter never came
        prior, previous_edge = _behind(record)
        new = replace(
            record,
            edge=connection.edge,
            connection_id=connection.connection_id,
            closed=True,
            may_have_sent=False,
            previous_connection_id=prior,
            previous_edge=previous_edge,
        )
    return left_alone(new, now)


def departure(connection: DeviceRecord | Request, reason: str) -> Tombstone:
    """Say that a connection leaves, and with it the match that it is in."""
    return Tombstone(
        app=connection.app,
        device=connection.device,
        edge=connection.edge,
        connection_id=connection.connection_id,
        match=getattr(connection, "match", None),
        peer=getattr(connection, "peer", None),
        reason=reason,
    )


def standing(record: DeviceRecord, revision: int, peer: DeviceRecord | None = None) -> AnyAnswer:
    """Say where a device stands; in a match, with its `peer`."""
    if record.match is None or record.peer is None or peer is None:
        return DeviceWaiting(connection_id=record.connection_id, since=revision)
    return DevicePaired(
        connection_id=record.connection_id,
        match=record.match,
        peer=record.peer,
        distance=record.distance or 0.0,
        matched_connection_id=record.matched_connection_id,
        peer_edge=peer.edge,
        peer_connection_id=peer.connection_id,
        peer_away=peer.disconnected_at is not None,
        previous_connection_id=record.previous_connection_id,
        previous_edge=record.previous_edge,
    )


def replaced(connection: DeviceRecord | Request, by: DeviceRecord | Tombstone | Request) -> DeviceReplaced:
    """Say that a newer connection has taken the place of this one."""
    return DeviceReplaced(connection_id=connection.connection_id, by=by.connection_id, edge=by.edge)


def missing(connection: DeviceRecord | Request, last: DeviceRecord | Tombstone | None) -> AnyAnswer:
    """Say what became of a connection that the device's record, or word of it, does not speak of."""
    if last is not None and age(last) > age(connection):
        return replaced(connection, last)
    return DeviceGone(connection_id=connection.connection_id)
