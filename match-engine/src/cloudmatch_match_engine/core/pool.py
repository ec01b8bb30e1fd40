"""Waiting devices, indexed by location: finds all that may be within reach of a device without scanning.

Locations are points in space, in metres from the centre of the Earth, and cells are cubes of space. So there
are no poles, no date line and no cell of another shape. The straight line between two points is never longer
than the great circle, and that is never longer than a planar distance in degrees: every device in reach is
within that many metres in space. A cell is at least as wide as the diameter of the search, so eight suffice.

Devices are grouped into classes by their own reach, in powers of two: one that reaches ten metres is searched
for within ten metres, however far the seeker reaches. Within its class it is kept in cells of several sizes,
for seekers that reach less far than it does.
"""

from collections.abc import Iterator
from math import cos, floor, frexp, pi, radians, sin
from typing import NamedTuple

from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_bus.contract.sphere import EARTH_RADIUS
from cloudmatch_match_engine.core.keys import DeviceId

DIAMETER = 2 * EARTH_RADIUS
SLACK, MORE = 1e-3, 1 + 1e-6  # m, and a factor: far more than any rounding error
STEP = 3  # powers of two between the sizes of cells within a class

Point = tuple[float, float, float]  # m
Cell = tuple[int, int, int, int, int]  # class, size, and x, y, z; class and size are powers of two, in m


class MirroredDevice(NamedTuple):
    """A device's record and its revision, as the mirror has them."""

    record: DeviceRecord
    revision: int


class _Member(NamedTuple):
    mirrored: MirroredDevice
    point: Point
    reach: float  # m
    cells: tuple[Cell, ...]


def point(record: DeviceRecord) -> Point:
    """Return a device's location as a point in space, in metres."""
    lat, lon = radians(record.lat), radians(record.lon)
    level = EARTH_RADIUS * cos(lat)
    return level * cos(lon), level * sin(lon), EARTH_RADIUS * sin(lat)


def _cube(at: Point, size: int) -> tuple[int, int, int]:
    """Return which of the cubes of 2^size metres contains a point."""
    x, y, z = at
    width = 2.0**size
    return floor(x / width), floor(y / width), floor(z / width)


def _power(width: float) -> int:
    """Return the exponent of the power of two just above `width` (m); at least 0."""
    return max(0, frexp(width)[1])


class Pool:
    """The waiting devices of one app and tag. `planar`: the reach in degrees of those without a radius."""

    def __init__(self, planar: float) -> None:
        self._planar = planar * pi / 180 * EARTH_RADIUS
        self._members: dict[DeviceId, _Member] = {}
        self._cells: dict[Cell, dict[DeviceId, _Member]] = {}
        # class → how many devices are in it
        self._classes: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[MirroredDevice]:
        """Iterate over all devices, in no order."""
        return (member.mirrored for member in self._members.values())

    def add(self, device: DeviceId, mirrored: MirroredDevice) -> None:
        """Add a waiting device."""
        reach, at = self._reach(mirrored.record), point(mirrored.record)
        of = _power(2 * reach)
        cells = tuple((of, size, *_cube(at, size)) for size in range(of, -1, -STEP))
        member = _Member(mirrored, at, reach, cells)
        self._members[device] = member
        for cell in cells:
            self._cells.setdefault(cell, {})[device] = member
        self._classes[of] = self._classes.get(of, 0) + 1

    def remove(self, device: DeviceId) -> None:
        """Remove a device."""
        member = self._members.pop(device)
        for cell in member.cells:
            inside = self._cells[cell]
            del inside[device]
            if not inside:
                del self._cells[cell]
        of = member.cells[0][0]
        self._classes[of] -= 1
        if not self._classes[of]:
            del self._classes[of]

    def near(self, seeker: DeviceRecord) -> Iterator[MirroredDevice]:
        """Yield all devices in mutual reach of the seeker, and a few that are not."""
        x, y, z = point(seeker)
        mine = self._reach(seeker)
        for of in self._classes:
            reach = min(mine, 2.0**of / 2)
            size = of - max(0, of - _power(2 * reach)) // STEP * STEP
            width = 2.0**size
            for i in range(floor((x - reach) / width), floor((x + reach) / width) + 1):
                for j in range(floor((y - reach) / width), floor((y + reach) / width) + 1):
                    for k in range(floor((z - reach) / width), floor((z + reach) / width) + 1):
                        for member in self._cells.get((of, size, i, j, k), {}).values():
                            u, v, w = member.point
                            both = min(mine, member.reach)
                            if (u - x) ** 2 + (v - y) ** 2 + (w - z) ** 2 <= both * both:
                                yield member.mirrored

    def _reach(self, record: DeviceRecord) -> float:
        """Return how far a device reaches at most, in metres straight through space."""
        reach = self._planar if record.radius is None else record.radius
        return min(reach * MORE + SLACK, DIAMETER)
