"""What a device may do: what its token grants, or anything at an edge that asks for none."""

from typing import NamedTuple

import msgspec

from cloudmatch_edge.dialects.parameters import Parameters


class Place(NamedTuple):
    """A circle on the earth."""

    lat: float  # degrees
    lon: float  # degrees
    radius: float  # metres


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a verified token grants; None: no limit."""

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


OPEN = Grant()


class Admitted(NamedTuple):
    """A device that may come in."""

    who: Parameters
    grant: Grant = OPEN
