"""What a device may do: what its token permits, or anything at an edge that asks for none."""

import unicodedata
from typing import NamedTuple

import msgspec

from cloudmatch_bus.contract.sphere import distance
from cloudmatch_edge.admission.denied import forbidden
from cloudmatch_edge.dialects.parameters import Parameters


class Place(NamedTuple):
    """A circle on the earth."""

    lat: float  # degrees
    lon: float  # degrees
    radius: float  # metres


class Permit(msgspec.Struct, frozen=True, kw_only=True):
    """What a verified token permits; None: no limit."""

    app: str | None = None
    device: str | None = None  # its id
    subject: str | None = None  # whom the token was made for, spelled as in the token
    expires: float | None = None  # s since 1970
    issued: float | None = None  # s since 1970
    token_id: str | None = None
    tags: tuple[str, ...] | None = None
    radius: float | None = None  # metres, at most
    rate: float = 0.0  # frames a second that are read, over time; 0: as the edge's settings say
    bytes: float = 0.0  # bytes a second that are read, over time; 0: as the edge's settings say
    place: Place | None = None  # where the device may say that it is

    def narrow(self, who: Parameters) -> Parameters:
        """Return what a device may have of what it asks for: its own id, no larger a radius than permitted.

        Raises:
            DeniedError: it asks for more.
        """
        if self.device is not None and unicodedata.normalize("NFC", who.id) != self.device:
            raise forbidden("id", "the token is of another device")
        if self.app is not None and who.app != self.app:
            raise forbidden("app", "the token is of another app")
        if self.tags is not None and who.tag not in self.tags:
            raise forbidden("tag", "the token allows other tags only")
        if self.radius is not None and (who.radius or 0.0) > self.radius:
            raise forbidden("radius", f"the token allows at most {self.radius:g} metres")
        if not self.includes(who.lat, who.lon):
            raise forbidden("place", "the token allows another place only")
        return who._replace(id=self.device or who.id, radius=who.radius or self.radius)

    def includes(self, lat: float, lon: float) -> bool:
        """Whether the device may say that it is here (degrees)."""
        return self.place is None or distance(lat, lon, self.place.lat, self.place.lon) <= self.place.radius


OPEN = Permit()


class Admitted(NamedTuple):
    """A device that may come in."""

    who: Parameters
    permit: Permit = OPEN
