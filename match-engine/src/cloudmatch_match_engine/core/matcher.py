"""Which devices may be matched, and which comes first.

Two devices match when app and tag are equal, each is within the other's reach, and they did not just leave
a match with each other. A device with a radius reaches that many great-circle metres; one without follows
the rule of 2019: a planar distance in degrees below 1.42 (a setting). Nearest first, then longest waiting,
then id.
"""

from collections.abc import Iterable
from math import hypot

from cloudmatch_bus.contract import sphere
from cloudmatch_bus.contract.messages import DeviceRecord

PLANAR_REACH = 1.42  # degrees: the rule of 2019


def distance(a: DeviceRecord, b: DeviceRecord) -> float:
    """Return the distance in metres."""
    return sphere.distance(a.lat, a.lon, b.lat, b.lon)


def reaches(a: DeviceRecord, b: DeviceRecord, metres: float, planar: float = PLANAR_REACH) -> bool:
    """Whether `b` is within the reach of `a`.

    Args:
        metres: the distance between them.
        planar: reach in degrees of devices without a radius.
    """
    if a.radius is None:
        return hypot(a.lat - b.lat, a.lon - b.lon) < planar
    return metres <= a.radius


def eligible(a: DeviceRecord, b: DeviceRecord) -> bool:
    """Whether two devices of one app and tag differ and did not just leave a match with each other."""
    return b.device not in (a.device, a.last_peer) and a.device != b.last_peer


def suits(a: DeviceRecord, b: DeviceRecord, planar: float = PLANAR_REACH) -> bool:
    """Whether two devices may be matched, provided that both wait."""
    if (a.app, a.tag) != (b.app, b.tag) or not eligible(a, b):
        return False
    metres = distance(a, b)
    return reaches(a, b, metres, planar) and reaches(b, a, metres, planar)


def choose(
    seeker: DeviceRecord,
    waiting: Iterable[tuple[DeviceRecord, int]],
    before: int,
    planar: float = PLANAR_REACH,
) -> tuple[DeviceRecord, int] | None:
    """Choose a peer among (record, revision) of the devices that wait with the seeker's app and tag.

    Only devices whose revision is below `before`, the seeker's own, are candidates: of two devices that
    arrive together, the younger searches when the older is already visible, so they cannot miss each other.
    """
    best: tuple[float, int, str] | None = None
    chosen = None
    for record, revision in waiting:
        if revision >= before or not eligible(seeker, record):
            continue
        metres = distance(seeker, record)
        rank = metres, revision, record.device
        if (
            (best is None or rank < best)
            and reaches(seeker, record, metres, planar)
            and reaches(record, seeker, metres, planar)
        ):
            best, chosen = rank, (record, revision)
    return chosen
