"""How far apart two devices are, as it is told to others: never so exactly that it locates a stranger.

Rounded distances are measured between the middles of two squares of `GRID` metres, one for each device, and
then rounded. So they are the same for all places within a square: whoever asks from many places of its choice
learns in which square a device is, and no more. Who is matched depends on where devices are exactly.
"""

from math import cos, floor, log10, pi, radians
from typing import Literal

from msgspec.structs import replace

from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_bus.contract.sphere import EARTH_RADIUS
from cloudmatch_match_engine.core.matcher import distance

Told = Literal["exact", "rounded", "none"]

GRID = 1000.0  # m; also the least that is told
DIGITS = 2  # that a longer distance keeps

_ROWS = round(pi * EARTH_RADIUS / GRID)  # of squares, from pole to pole


def _square(lat: float, lon: float) -> tuple[float, float]:
    """Return the middle of the square that contains a location."""
    row = min(floor((lat + 90) / 180 * _ROWS), _ROWS - 1)
    middle = (row + 0.5) * 180 / _ROWS - 90
    columns = max(1, round(2 * pi * EARTH_RADIUS * cos(radians(middle)) / GRID))
    column = floor((lon + 180) / 360 * columns) % columns
    return middle, (column + 0.5) * 360 / columns - 180


def snapped(record: DeviceRecord) -> DeviceRecord:
    """Move a device to the middle of its square."""
    lat, lon = _square(record.lat, record.lon)
    return replace(record, lat=lat, lon=lon)


def told(a: DeviceRecord, b: DeviceRecord, how: Told) -> float:
    """Return how far apart two devices are, in metres, as it is told; 0: not told."""
    if how == "exact":
        return distance(a, b)
    if how == "none":
        return 0.0
    metres = max(distance(snapped(a), snapped(b)), GRID)
    step = max(10.0 ** (floor(log10(metres)) + 1 - DIGITS), GRID)
    return round(metres / step) * step
