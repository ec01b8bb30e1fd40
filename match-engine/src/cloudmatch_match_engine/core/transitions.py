"""What becomes of a device's record: pure steps from one to the next, and what is said of it."""

from msgspec.structs import replace

from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    Departure,
    DeviceGone,
    DevicePaired,
    DeviceRecord,
    DeviceReplaced,
    DeviceWaiting,
    Request,
    SeekPartner,
    StepAway,
)


def age(connection: DeviceRecord | Departure | Request) -> tuple[int, str]:
    """Order connections of one id: the larger is the newer; equal are the same."""
    return connection.session, connection.edge


def waiting(request: SeekPartner) -> DeviceRecord:
    """Make the record of a device that begins to wait."""
    return DeviceRecord(
        app=request.app,
        device=request.device,
        edge=request.edge,
        session=request.session,
        lat=request.lat,
        lon=request.lon,
        radius=request.radius,
        tag=request.tag,
        place=request.place,
        start=request.start,
        grace=request.grace,
        token=request.token,
    )


def announced(record: DeviceRecord, request: SeekPartner) -> DeviceRecord:
    """The same connection says again what it is: it is there, and perhaps elsewhere."""
    new = replace(record, start=request.start, away=None)
    if request.place > record.place:
        return replace(new, place=request.place, lat=request.lat, lon=request.lon)
    return new


def resumes(record: DeviceRecord, request: SeekPartner) -> bool:
    """Whether a newer connection goes on where this one stopped."""
    return request.resume and request.token == record.token != ""


def resumed(record: DeviceRecord, request: SeekPartner) -> DeviceRecord:
    """A newer connection takes the session over, with its match. It names the newest place."""
    prior, prior_edge = _behind(record)
    return replace(
        record,
        edge=request.edge,
        session=request.session,
        start=request.start,
        began=True,
        prior=prior,
        prior_edge=prior_edge,
        place=request.place,
        lat=request.lat,
        lon=request.lon,
        radius=request.radius,
        tag=request.tag,
        grace=request.grace,
        away=None,
        closed=False,
    )


def paired(record: DeviceRecord, peer: DeviceRecord, match: int, metres: float) -> DeviceRecord:
    """Put a device into a match."""
    return replace(
        record,
        match=match,
        peer=peer.device,
        distance=metres,
        met=record.session,
        began=True,
        prior=0,
        prior_edge="",
        former=None,
    )


def again(record: DeviceRecord, former: str | None = None) -> DeviceRecord:
    """Make the record of a device whose match is over; it is not to meet `former` again at once."""
    return replace(record, match=None, peer=None, distance=None, met=0, former=former)


def left_alone(record: DeviceRecord, now: int) -> DeviceRecord:
    """The device has no connection, since `now` (ms)."""
    return replace(record, away=now if record.away is None else record.away)


def _behind(record: DeviceRecord) -> tuple[int, str]:
    """The last connection that may have sent payloads, as a newer one has it before it."""
    return (record.session, record.edge) if record.began else (record.prior, record.prior_edge)


def closed(record: DeviceRecord, connection: StepAway, now: int) -> DeviceRecord:
    """This connection, the newest, is over: it will not be heard of again."""
    if connection.session == record.session:
        new = replace(record, closed=True, began=connection.began)
    else:  # its request to enter never came
        prior, prior_edge = _behind(record)
        new = replace(
            record,
            edge=connection.edge,
            session=connection.session,
            closed=True,
            began=False,
            prior=prior,
            prior_edge=prior_edge,
        )
    return left_alone(new, now)


def departure(connection: DeviceRecord | Request, reason: str) -> Departure:
    """Say that a connection leaves, and with it the match that it is in."""
    return Departure(
        app=connection.app,
        device=connection.device,
        edge=connection.edge,
        session=connection.session,
        match=getattr(connection, "match", None),
        peer=getattr(connection, "peer", None),
        reason=reason,
    )


def standing(record: DeviceRecord, revision: int, peer: DeviceRecord | None = None) -> AnyAnswer:
    """Say where a device stands; in a match, with its `peer`."""
    if record.match is None or record.peer is None or peer is None:
        return DeviceWaiting(session=record.session, since=revision)
    return DevicePaired(
        session=record.session,
        match=record.match,
        peer=record.peer,
        distance=record.distance or 0.0,
        met=record.met,
        peer_edge=peer.edge,
        peer_session=peer.session,
        peer_away=peer.away is not None,
        prior=record.prior,
        prior_edge=record.prior_edge,
    )


def replaced(connection: DeviceRecord | Request, by: DeviceRecord | Departure | Request) -> DeviceReplaced:
    """Say that a newer connection has taken the place of this one."""
    return DeviceReplaced(session=connection.session, by=by.session, edge=by.edge)


def missing(connection: DeviceRecord | Request, last: DeviceRecord | Departure | None) -> AnyAnswer:
    """Say what became of a connection that the device's record, or word of it, does not speak of."""
    if last is not None and age(last) > age(connection):
        return replaced(connection, last)
    return DeviceGone(session=connection.session)
