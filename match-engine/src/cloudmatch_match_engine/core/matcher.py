"""Who may be paired with whom, and who comes first.

Two devices match when app and tag are equal, each is within the other's reach, and they did not just part.
A device that named a radius reaches that many great-circle metres; one that did not keeps the rule of
2019, a planar distance in degrees below 1.42 (a setting). Nearest first, then longest waiting, then id.
"""

from collections.abc import Iterable
from math import asin, cos, hypot, radians, sin, sqrt

from cloudmatch_bus.contract.messages import DeviceRecord

EARTH_RADIUS = 6_371_008.8  # metres, mean
PLANAR_REACH = 1.42  # degrees: the rule of 2019


def distance(a: DeviceRecord, b: DeviceRecord) -> float:
    """Great-circle distance in metres (haversine: exact enough at the poles and across the date line)."""
    lat_a, lat_b = radians(a.lat), radians(b.lat)
    h = sin((lat_b - lat_a) / 2) ** 2 + cos(lat_a) * cos(lat_b) * sin(radians(b.lon - a.lon) / 2) ** 2
    return 2 * EARTH_RADIUS * asin(min(1.0, sqrt(h)))


def reaches(a: DeviceRecord, b: DeviceRecord, metres: float, planar: float = PLANAR_REACH) -> bool:
    """Whether `b`, at this distance, is within the reach of `a`.

    Args:
        planar: in degrees, for devices that named no radius.
    """
    if a.radius is None:
        return hypot(a.lat - b.lat, a.lon - b.lon) < planar
    return metres <= a.radius


def strangers(a: DeviceRecord, b: DeviceRecord) -> bool:
    """Whether two devices of the same app and tag are two, and did not just part."""
    return b.device not in (a.device, a.last_peer) and a.device != b.last_peer


def suits(a: DeviceRecord, b: DeviceRecord, planar: float = PLANAR_REACH) -> bool:
    """Whether two devices may be paired, if both wait."""
    if (a.app, a.tag) != (b.app, b.tag) or not strangers(a, b):
        return False
    metres = distance(a, b)
    return reaches(a, b, metres, planar) and reaches(b, a, metres, planar)


def choose(
    seeker: DeviceRecord,
    waiting: Iterable[tuple[DeviceRecord, int]],
    before: int,
    planar: float = PLANAR_REACH,
) -> tuple[DeviceRecord, int] | None:
    """Choose a partner among (record, revision) of those that wait with the seeker's app and tag.

    Only devices whose revision is below `before`, the seeker's own, come into question: of two that
    arrive together the younger looks when the older is already there to be seen, so that they cannot
    miss each other.
    """
    best: tuple[float, int, str] | None = None
    chosen = None
    for record, revision in waiting:
        if revision >= before or not strangers(seeker, record):
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
