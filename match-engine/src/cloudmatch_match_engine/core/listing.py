"""The devices of an app, page by page, in the order of their ids: no change of others moves a device."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from heapq import nsmallest

import msgspec

from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_match_engine.core.explain import State, device_state
from cloudmatch_match_engine.core.pool import MirroredDevice

LARGEST = 500  # devices of a page: fewer bytes than NATS takes in one message


class ListedDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device, without its place and its token."""

    device: str
    state: State
    connected: bool  # a matched device may be disconnected, within its grace
    edge: str  # that holds its connection, or held it last
    tag: str | None
    match: int | None
    peer: str | None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Some devices of an app."""

    app: str
    devices: list[ListedDevice]
    next: str | None  # the cursor of the next page; None: this is the last one


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which devices to list; what is not said does not matter. The tag None: those that have none."""

    app: str
    state: State | msgspec.UnsetType = msgspec.UNSET
    connected: bool | msgspec.UnsetType = msgspec.UNSET
    tag: str | msgspec.UnsetType | None = msgspec.UNSET

    def has(self, record: DeviceRecord) -> bool:
        """Whether a device is among them."""
        return (
            record.app == self.app
            and self.tag in (msgspec.UNSET, record.tag)
            and self.state in (msgspec.UNSET, device_state(record))
            and self.connected in (msgspec.UNSET, record.disconnected_at is None)
        )


def listed(record: DeviceRecord) -> ListedDevice:
    """Return what a list says of a device."""
    return ListedDevice(
        device=record.device,
        state=device_state(record),
        connected=record.disconnected_at is None,
        edge=record.edge,
        tag=record.tag,
        match=record.match,
        peer=record.peer,
    )


def position(cursor: str) -> str:
    """Return the id after which a page begins; no cursor: before all.

    Raises:
        ValueError: the cursor is none of ours.
    """
    device = urlsafe_b64decode(cursor.encode()).decode()
    if _cursor(device) != cursor:
        raise ValueError(f"{cursor!r} is no cursor: take `next` of a page as it is")
    return device


def _cursor(device: str) -> str:
    return urlsafe_b64encode(device.encode()).decode()


def page(everyone: Iterable[MirroredDevice], wanted: Wanted, after: str, limit: int) -> Page:
    """List at most `limit` devices whose ids follow `after`; takes time proportional to all devices."""
    found = nsmallest(
        limit + 1,
        (each.record for each in everyone if each.record.device > after and wanted.has(each.record)),
        key=lambda record: record.device,
    )
    devices = [listed(record) for record in found[:limit]]
    return Page(
        app=wanted.app,
        devices=devices,
        next=_cursor(devices[-1].device) if len(found) > limit else None,
    )
