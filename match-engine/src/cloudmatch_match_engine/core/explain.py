"""Explain in sentences why a device is not matched."""

from collections.abc import Callable, Iterable, Iterator
from heapq import nsmallest
from math import hypot
from typing import Literal, NamedTuple

import msgspec

from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_match_engine.core.distances import Told, told
from cloudmatch_match_engine.core.matcher import distance, reaches
from cloudmatch_match_engine.core.pool import MirroredDevice

NEAREST = 5

Absent = Callable[[DeviceRecord], float]  # s for which a device has been disconnected

State = Literal["waiting", "matched", "away"]
Rule = Literal["matched", "away", "tag", "former", "own_reach", "their_reach"]


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """Another device of the app and the rules that keep it from being the peer; none: a match is imminent."""

    device: str
    distance: float  # m, as it is told to devices; 0: it is not
    rules: list[Rule]
    sentence: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """A device's state and its nearest neighbours."""

    app: str
    device: str
    state: State
    waiting: int  # waiting devices of the app, including this one
    sentence: str
    nearest: list[Neighbour]


def device_state(record: DeviceRecord) -> State:
    """Return how a device is; in a match it is `matched`, with or without a connection."""
    if record.match is not None:
        return "matched"
    return "waiting" if record.disconnected_at is None else "away"


def _metres(metres: float) -> str:
    return f"{metres:,.0f} m" if metres >= 10 else f"{metres:.2f} m"


def _away(metres: float) -> str:
    """Describe a distance as it is told; 0: it is not."""
    return f", {_metres(metres)} away" if metres else ""


def _tag(record: DeviceRecord) -> str:
    return "no tag" if record.tag is None else f"the tag '{record.tag}'"


def _reach(device: DeviceRecord, other: DeviceRecord, planar: float, how: Told) -> str:
    """Describe how far `device` reaches if that is too short for `other`."""
    if device.radius is not None:
        return f"{device.device} reaches {_metres(device.radius)}"
    text = f"{device.device} has no radius: it reaches less than {planar:g}° on a flat map"
    if how != "exact":
        return text
    apart = hypot(device.lat - other.lat, device.lon - other.lon)
    return f"{text}, and the distance is {apart:.4g}°"


def _downtime(record: DeviceRecord, absent: Absent) -> str:
    """Describe a device's grace."""
    return f"has been disconnected for {absent(record):.0f} s of at most {record.grace:g} s"


def _rules(
    me: DeviceRecord, other: DeviceRecord, planar: float, absent: Absent, how: Told
) -> Iterator[tuple[Rule, str]]:
    """Yield each rule that keeps two devices apart, with the predicate of a sentence about `other`."""
    if other.match is not None:
        yield "matched", f"is in a match with {other.peer}"
    if other.disconnected_at is not None:
        yield "away", _downtime(other, absent)
    if other.tag != me.tag:
        yield "tag", f"has {_tag(other)}, and {me.device} has {_tag(me)}"
    if me.device == other.last_peer or other.device == me.last_peer:
        yield "former", f"has left a match with {me.device}, and one of them has had no other peer since"
    metres = distance(me, other)
    if not reaches(me, other, metres, planar):
        yield "own_reach", f"is too far away: {_reach(me, other, planar, how)}"
    if not reaches(other, me, metres, planar):
        yield "their_reach", f"does not reach that far: {_reach(other, me, planar, how)}"


def _neighbour(me: DeviceRecord, other: DeviceRecord, planar: float, absent: Absent, how: Told) -> Neighbour:
    metres = told(me, other, how)
    away = _away(metres)
    found = list(_rules(me, other, planar, absent, how))
    why = "; ".join(text for _, text in found) or "may be matched with it, and should be in a moment"
    return Neighbour(
        device=other.device,
        distance=metres,
        rules=[rule for rule, _ in found],
        sentence=f"{other.device}{away and away + ','} {why}.",
    )


def _sentence(me: DeviceRecord, state: State, waiting: int, absent: Absent) -> str:
    if state == "matched":
        return f"{me.device} is in match {me.match} with {me.peer}{_away(me.distance or 0.0)}."
    if me.disconnected_at is not None:
        return f"{me.device} {_downtime(me, absent)}."
    others = waiting - 1
    if not others:
        return f"{me.device} waits, and nobody else waits in app '{me.app}'."
    so = "does another" if others == 1 else f"do {others:,} others"
    return f"{me.device} waits, and so {so} in app '{me.app}'."


class Survey(NamedTuple):
    """What there is around a device."""

    waiting: int  # devices of its app
    nearest: list[DeviceRecord]


def survey(me: DeviceRecord, everyone: Iterable[MirroredDevice]) -> Survey:
    """Look at all devices of all apps; takes time proportional to their number, and reads nothing else."""
    of_app = [mirrored.record for mirrored in everyone if mirrored.record.app == me.app]
    return Survey(
        sum(device_state(record) == "waiting" for record in of_app),
        nsmallest(
            NEAREST,
            (record for record in of_app if record.device != me.device),
            key=lambda record: (distance(me, record), record.device),
        ),
    )


def explain(me: DeviceRecord, found: Survey, planar: float, absent: Absent, how: Told) -> Explanation:
    """Explain a device's state.

    Args:
        planar: reach in degrees of devices without a radius.
        how: a distance is told.
    """
    state = device_state(me)
    nearest = found.nearest if state == "waiting" else []
    return Explanation(
        app=me.app,
        device=me.device,
        state=state,
        waiting=found.waiting,
        sentence=_sentence(me, state, found.waiting, absent),
        nearest=[_neighbour(me, other, planar, absent, how) for other in nearest],
    )
