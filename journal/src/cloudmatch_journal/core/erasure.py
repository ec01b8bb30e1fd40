"""Erase a device from what is kept: facts from before it was forgotten name it by a pseudonym.

The pseudonym is made of the position of the fact that asked for it, so every copy of the journal finds the
same, and it leads nowhere once that fact has left the stream. Numbers and sizes stay: the history of peers is
exact. Places, tags and distances go.
"""

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from cloudmatch_bus.contract.deliveries import Claim
from cloudmatch_bus.contract.messages import (
    AnyFact,
    DeliveriesClaimed,
    DeliveriesCounted,
    DeviceConnected,
    DeviceForgotten,
    MatchMade,
)

PREFIX = "forgotten-"  # of pseudonyms
T = TypeVar("T", bound=msgspec.Struct)

FIELDS = ("device", "peer", "sender", "receiver")


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """A device to be erased from everything up to a position, that of the fact that asked for it."""

    app: str
    device: str
    position: int

    @property
    def pseudonym(self) -> str:
        """The name that stays."""
        return f"{PREFIX}{self.position}"


def erasure(position: int, fact: DeviceForgotten) -> Erasure | None:
    """Return what a fact asks for; None if that is done: then it names nobody any more."""
    asked = Erasure(app=fact.app, device=fact.device, position=position)
    return None if fact.device == asked.pseudonym else asked


def erased(position: int, fact: AnyFact, erasures: Iterable[Erasure]) -> AnyFact:
    """Return a fact as it is kept after erasures."""
    for each in erasures:
        if position <= each.position and fact.app == each.app:
            fact = renamed(fact, each.device, each.pseudonym)
    return fact


def renamed(fact: AnyFact, device: str, name: str) -> AnyFact:
    """Return a fact in which a device has another name, and nothing says where it was."""
    if device not in fact.devices:
        return fact
    match fact:
        case DeliveriesCounted():
            return msgspec.structs.replace(fact, spans=[_ends(each, device, name) for each in fact.spans])
        case DeliveriesClaimed():
            claims = [renamed_claim(each, device, name) for each in fact.claims]
            return msgspec.structs.replace(fact, claims=claims)
        case DeviceConnected():
            return msgspec.structs.replace(fact, device=name, lat=0.0, lon=0.0, radius=None, tag=None)
        case MatchMade():
            return msgspec.structs.replace(_ends(fact, device, name), distance=0.0)
    return _ends(fact, device, name)


def renamed_claim(claim: Claim, device: str, name: str) -> Claim:
    """Return a claim in which a device has another name."""
    span = None if claim.span is None else _ends(claim.span, device, name)
    return msgspec.structs.replace(_ends(claim, device, name), span=span)


def _ends(of: T, device: str, name: str) -> T:
    changed = {field: name for field in FIELDS if getattr(of, field, None) == device}
    return msgspec.structs.replace(of, **changed)


def is_erased(kept: AnyFact, fact: AnyFact) -> bool:
    """Whether what is kept is a fact from which devices have been erased."""
    before, after = fact.devices, kept.devices
    if len(before) == len(after):
        for device, name in zip(before, after, strict=True):
            if name != device and name.startswith(PREFIX):
                fact = renamed(fact, device, name)
    return kept == fact
