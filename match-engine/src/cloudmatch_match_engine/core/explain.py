"""Say why a device is not matched, in words that a human understands."""

from heapq import nsmallest
from math import hypot
from typing import Literal

import msgspec

from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_match_engine.core.keys import device_id
from cloudmatch_match_engine.core.matcher import distance, reaches
from cloudmatch_match_engine.core.roster import Roster

NEAREST = 5

State = Literal["waiting", "matched", "away"]
Rule = Literal["matched", "away", "tag", "former", "own_reach", "their_reach"]


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """Another device of the app, and why it is not the partner; no rules: it should be, in a moment."""

    device: str
    distance: float  # m
    rules: list[Rule]
    sentence: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Where a device stands, and its nearest neighbours."""

    app: str
    device: str
    state: State
    waiting: int  # devices that wait in the app, this one included
    sentence: str
    nearest: list[Neighbour]


def _state(record: DeviceRecord) -> State:
    if record.match is not None:
        return "matched"
    return "waiting" if record.disconnected_at is None else "away"


def _metres(metres: float) -> str:
    return f"{metres:,.0f} m" if metres >= 10 else f"{metres:.2f} m"


def _tag(record: DeviceRecord) -> str:
    return "no tag" if record.tag is None else f"the tag '{record.tag}'"


def _short(who: DeviceRecord, other: DeviceRecord, planar: float) -> str:
    """Say how far `who` reaches, when that is not far enough."""
    if who.radius is not None:
        return f"{who.device} reaches {_metres(who.radius)}"
    apart = hypot(who.lat - other.lat, who.lon - other.lon)
    return (
        f"{who.device} names no radius: it reaches less than {planar:g}° on a flat map, that is {apart:.4g}°"
    )


def _neighbour(me: DeviceRecord, other: DeviceRecord, planar: float, now: int) -> Neighbour:
    metres = distance(me, other)
    found: list[tuple[Rule, str]] = []
    if other.match is not None:
        found.append(("matched", f"is in a match with {other.peer}"))
    if other.disconnected_at is not None:
        gone = (now - other.disconnected_at) / 1000
        found.append(("away", f"has no connection, since {gone:.0f} s of {other.grace:g} s at most"))
    if other.tag != me.tag:
        found.append(("tag", f"has {_tag(other)}, and {me.device} has {_tag(me)}"))
    if me.device == other.last_peer or other.device == me.last_peer:
        found.append(("former", f"parted from {me.device}, and one of them has had no other partner since"))
    if not reaches(me, other, metres, planar):
        found.append(("own_reach", f"is too far away: {_short(me, other, planar)}"))
    if not reaches(other, me, metres, planar):
        found.append(("their_reach", f"does not reach so far: {_short(other, me, planar)}"))
    why = "; ".join(text for _, text in found) or "may be matched with it, and should be in a moment"
    return Neighbour(
        device=other.device,
        distance=metres,
        rules=[rule for rule, _ in found],
        sentence=f"{other.device}, {_metres(metres)} away, {why}.",
    )


def _sentence(me: DeviceRecord, state: State, waiting: int, now: int) -> str:
    if state == "matched":
        return f"{me.device} is in match {me.match} with {me.peer}, {_metres(me.distance or 0.0)} away."
    if me.disconnected_at is not None:
        gone = (now - me.disconnected_at) / 1000
        return f"{me.device} has no connection, since {gone:.0f} s of {me.grace:g} s at most."
    others = waiting - 1
    if not others:
        return f"{me.device} waits, and nobody else waits in app '{me.app}'."
    so = "does another" if others == 1 else f"do {others:,} others"
    return f"{me.device} waits, and so {so} in app '{me.app}'."


def explain(roster: Roster, app: str, device: str, planar: float, now: int) -> Explanation | None:
    """Say where a device stands, as the mirror knows; None when it is not connected.

    Args:
        planar: reach in degrees of devices that name no radius.
        now: ms since 1970.
    """
    known = roster.get(device_id(app, device))
    if known is None:
        return None
    me = known.record
    everyone = [k.record for k in roster.of_app(app)]
    waiting = sum(_state(record) == "waiting" for record in everyone)
    nearest = nsmallest(
        NEAREST,
        (record for record in everyone if record.device != device),
        key=lambda record: (distance(me, record), record.device),
    )
    state = _state(me)
    return Explanation(
        app=app,
        device=device,
        state=state,
        waiting=waiting,
        sentence=_sentence(me, state, waiting, now),
        nearest=[_neighbour(me, other, planar, now) for other in nearest] if state == "waiting" else [],
    )
