"""Those who wait, by place: whoever may be within reach of a device, without looking at all the others.

Places are points in space, in metres from the centre of the Earth, and cubes of space are the cells. So there
are no poles, no date line and no cell of another shape. The straight line between two places is never longer
than the way over the globe, and that never longer than a planar distance in degrees: whoever is in reach is
within that many metres in space. A cell is at least as wide as what is looked for reaches to both sides, so
eight of them suffice.

A device is kept by how far it reaches, in classes of powers of two: whoever reaches ten metres is looked for
within ten metres, however far the seeker reaches. Within its class it is kept in cells of several sizes, for
seekers who reach less far than it does.
"""

from collections.abc import Iterator
from math import cos, floor, frexp, pi, radians, sin
from typing import NamedTuple

from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_match_engine.core.keys import DeviceId
from cloudmatch_match_engine.core.matcher import EARTH_RADIUS

DIAMETER = 2 * EARTH_RADIUS
SLACK, MORE = 1e-3, 1 + 1e-6  # m, and a factor: far more than what rounding can do
STEP = 3  # powers of two between the sizes of cells within a class

Place = tuple[float, float, float]  # m
Cell = tuple[int, int, int, int, int]  # class, size, and where; class and size are powers of two, in m


class Known(NamedTuple):
    """A device's record and its revision."""

    record: DeviceRecord
    revision: int


class _Member(NamedTuple):
    known: Known
    place: Place
    reach: float  # m
    cells: tuple[Cell, ...]


def place(record: DeviceRecord) -> Place:
    """Give a device's place in space, in metres."""
    lat, lon = radians(record.lat), radians(record.lon)
    level = EARTH_RADIUS * cos(lat)
    return level * cos(lon), level * sin(lon), EARTH_RADIUS * sin(lat)


def _inside(at: Place, size: int) -> tuple[int, int, int]:
    """In which of the cubes of 2^size metres a place is."""
    x, y, z = at
    width = 2.0**size
    return floor(x / width), floor(y / width), floor(z / width)


def _power(width: float) -> int:
    """The power of two (of metres, not below 1) that is at least `width`."""
    return max(0, frexp(width)[1])


class Pool:
    """Devices of one app and tag that wait. `planar`: the reach in degrees of those that name no radius."""

    def __init__(self, planar: float) -> None:
        self._planar = planar * pi / 180 * EARTH_RADIUS
        self._members: dict[DeviceId, _Member] = {}
        self._cells: dict[Cell, dict[DeviceId, _Member]] = {}
        # class → how many there are in it
        self._classes: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Known]:
        """All, in no order."""
        return (member.known for member in self._members.values())

    def add(self, device: DeviceId, known: Known) -> None:
        """Let a device wait."""
        reach, at = self._reach(known.record), place(known.record)
        of = _power(2 * reach)
        cells = tuple((of, size, *_inside(at, size)) for size in range(of, -1, -STEP))
        member = _Member(known, at, reach, cells)
        self._members[device] = member
        for cell in cells:
            self._cells.setdefault(cell, {})[device] = member
        self._classes[of] = self._classes.get(of, 0) + 1

    def remove(self, device: DeviceId) -> None:
        """Let a device wait no more."""
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

    def near(self, seeker: DeviceRecord) -> Iterator[Known]:
        """Give all who may be in reach of the seeker and reach it; some of them may not."""
        x, y, z = place(seeker)
        mine = self._reach(seeker)
        for of in self._classes:
            reach = min(mine, 2.0**of / 2)
            size = of - max(0, of - _power(2 * reach)) // STEP * STEP
            width = 2.0**size
            for i in range(floor((x - reach) / width), floor((x + reach) / width) + 1):
                for j in range(floor((y - reach) / width), floor((y + reach) / width) + 1):
                    for k in range(floor((z - reach) / width), floor((z + reach) / width) + 1):
                        for member in self._cells.get((of, size, i, j, k), {}).values():
                            u, v, w = member.place
                            both = min(mine, member.reach)
                            if (u - x) ** 2 + (v - y) ** 2 + (w - z) ** 2 <= both * both:
                                yield member.known

    def _reach(self, record: DeviceRecord) -> float:
        """How far a device reaches at most, in metres straight through space."""
        reach = self._planar if record.radius is None else record.radius
        return min(reach * MORE + SLACK, DIAMETER)
