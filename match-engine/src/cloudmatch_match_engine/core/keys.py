"""Keys of the bucket. Ids are escaped as in subjects."""

from functools import lru_cache
from typing import NamedTuple

from cloudmatch_bus.contract.subjects import CACHED_ADDRESSES, parse_up, token

DEVICE, PAIR = "dev", "pair"


class DeviceId(NamedTuple):
    """A device's app and id, both as subject tokens."""

    app: str
    device: str

    @property
    def key(self) -> str:
        """The key of the device's record."""
        return f"{DEVICE}.{self.app}.{self.device}"


def device_id(app: str, device: str) -> DeviceId:
    """Name a device by its unescaped ids."""
    return DeviceId(token(app), token(device))


@lru_cache(CACHED_ADDRESSES)
def source_of(subject: str) -> tuple[DeviceId, str] | None:
    """Name the device that sends batches on an `up` subject, and its edge (token); None for other subjects.

    An edge of an earlier version does not name itself: "". A plain tuple is unpacked faster than a named one.
    """
    if names := parse_up(subject):
        app, edge, device = names
        return DeviceId(app, device), edge
    return None


def pair_key(app: str, match: int) -> str:
    """Return the key of a match's record."""
    return f"{PAIR}.{token(app)}.{match}"


def parse_device(key: str) -> DeviceId | None:
    """Name the device of a key; None for keys of other kinds."""
    kind, _, rest = key.partition(".")
    if kind != DEVICE:
        return None
    app, _, device = rest.partition(".")
    return DeviceId(app, device)
