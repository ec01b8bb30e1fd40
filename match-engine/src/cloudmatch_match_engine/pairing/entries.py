"""What entries of the bucket hold. One that cannot be read, or is kept under another's key, counts as absent:
it is dropped, and what is written next replaces it."""

from collections.abc import Callable
from typing import TypeVar

from cloudmatch_bus.client.bucket import Entry
from cloudmatch_bus.contract.claims import FalseClaimError
from cloudmatch_bus.contract.messages import (
    DeviceRecord,
    PairRecord,
    Tombstone,
    decode_device,
    decode_pair,
    decode_tombstone,
)
from cloudmatch_bus.contract.unreadable import UNREADABLE
from cloudmatch_match_engine.core.keys import device_id, pair_key
from cloudmatch_match_engine.dropped import drop

R = TypeVar("R", DeviceRecord, PairRecord, Tombstone)


def device_in(entry: Entry) -> DeviceRecord | None:
    """Return the record of a device."""
    return None if entry.value is None else _decoded(entry.key, entry.value, decode_device)


def pair_in(entry: Entry) -> PairRecord | None:
    """Return the record of a match."""
    return None if entry.value is None else _decoded(entry.key, entry.value, decode_pair)


def tombstone_in(entry: Entry) -> Tombstone | None:
    """Return what a deleted key has left."""
    return _decoded(entry.key, entry.tombstone, decode_tombstone) if entry.tombstone else None


def _decoded(key: str, data: bytes, decode: Callable[[bytes], R]) -> R | None:
    try:
        value = decode(data)
        if key not in (device_id(value.app, value.device).key, pair_key(value.app, value.match or 0)):
            raise FalseClaimError(key, f"of {value.app}/{value.device} in match {value.match}")
    except UNREADABLE as error:
        drop(key, error)
        return None
    return value
