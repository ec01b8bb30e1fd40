"""Answers that describe the state of a device to its edge."""

from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    DeviceGone,
    DevicePaired,
    DeviceRecord,
    DeviceReplaced,
    DeviceUnpaired,
    DeviceWaiting,
    PeerAway,
    PeerReturned,
    Request,
    Tombstone,
)
from cloudmatch_match_engine.core.transitions import is_newer


def state_of(
    record: DeviceRecord, revision: int, peer: DeviceRecord | None = None, peer_revision: int = 0
) -> AnyAnswer:
    """Describe a device: waiting since `revision`, or matched with `peer`, as that was at `peer_revision`."""
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
        peer_revision=peer_revision,
    )


def replaced(
    connection: DeviceRecord | Request,
    by: DeviceRecord | Tombstone | Request,
    age: float | None = None,
) -> DeviceReplaced:
    """Describe a connection that a newer one has replaced, which is known for `age` seconds."""
    return DeviceReplaced(connection_id=connection.connection_id, by=by.connection_id, edge=by.edge, age=age)


def gone_or_replaced(
    connection: DeviceRecord | Request, last: DeviceRecord | Tombstone | None
) -> DeviceGone | DeviceReplaced:
    """Describe a connection that is not the device's current one; `last` is, if there is any."""
    if last is not None and is_newer(last, connection):
        return replaced(connection, last)
    return DeviceGone(connection_id=connection.connection_id)


def peer_returned(peer: DeviceRecord, record: DeviceRecord, match: int, revision: int) -> PeerReturned:
    """Tell `peer` which connection of `record`, as it was at `revision`, is in their match."""
    return PeerReturned(
        connection_id=peer.connection_id,
        match=match,
        peer_edge=record.edge,
        peer_connection_id=record.connection_id,
        peer_revision=revision,
    )


def peer_away(peer: DeviceRecord, record: DeviceRecord, match: int, revision: int) -> PeerAway:
    """Tell `peer` that `record`, in the same match, was disconnected at `revision`."""
    return PeerAway(
        connection_id=peer.connection_id,
        match=match,
        peer_connection_id=record.connection_id,
        peer_revision=revision,
    )


def unpaired(peer: DeviceRecord, match: int, reason: str) -> DeviceUnpaired:
    """Tell `peer` that its match has ended."""
    return DeviceUnpaired(connection_id=peer.connection_id, match=match, reason=reason)
