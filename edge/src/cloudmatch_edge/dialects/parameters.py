"""The query of ``/device/connect``, parsed and checked."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import parse_qs

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_TOKEN = re.compile(r"[A-Za-z0-9._-]{1,64}")


class BadParameterError(ValueError):
    """A parameter is missing or invalid."""

    def __init__(self, parameter: str, detail: str) -> None:
        super().__init__(f"{parameter}: {detail}")
        self.parameter = parameter
        self.detail = detail


class Parameters(NamedTuple):
    """A device, its position, and which peers it accepts."""

    id: str
    lat: float  # degrees
    lon: float  # degrees
    app: str = "default"
    radius: float | None = None  # metres; None: the server's rule
    tag: str | None = None
    resume: str | None = None  # token of the session to resume
    received: int = 0  # payloads of its match that the device has received
    match: int | None = None  # that match; None: `received` counts nothing


def parse(query: str, device: str | None = None, app: str = "default") -> Parameters:
    """Parse the query of a connection.

    Args:
        device: its id, if the query names none; None: it must.
        app: if the query names none.

    Raises:
        BadParameterError: names the first parameter that is missing or invalid.
    """
    for field in query.split("&") if not query.isascii() else ():
        name = field.partition("=")[0]
        if not field.isascii():
            raise BadParameterError(
                name if name.isascii() else "query", "must be percent-encoded: %E6%B8%A9 is 温"
            )
    try:
        given = parse_qs(query, keep_blank_values=True, errors="strict", max_num_fields=50)
    except UnicodeDecodeError:
        raise BadParameterError("query", "is not UTF-8") from None
    except ValueError:
        raise BadParameterError("query", "has more than 50 fields") from None
    return Parameters(
        id=_text(given, "id") if device is None or "id" in given else device,
        lat=_degrees(given, "lat", 90),
        lon=_degrees(given, "lon", 180),
        app=_text(given, "app") if "app" in given else app,
        radius=_radius(given) if "radius" in given else None,
        tag=_tag(given) if "tag" in given else None,
        resume=_token(given) if "resume" in given else None,
        received=_count(given, "received") if "received" in given else 0,
        match=_count(given, "match") if "match" in given else None,
    )


def _one(given: Mapping[str, Sequence[str]], name: str) -> str:
    values = given.get(name)
    if not values:
        raise BadParameterError(name, "is required")
    if len(values) > 1:
        raise BadParameterError(name, "is given more than once")
    return values[0]


def _text(given: Mapping[str, Sequence[str]], name: str) -> str:
    value = _one(given, name)
    if not 1 <= len(value) <= 64:
        raise BadParameterError(name, f"must have 1 to 64 characters, has {len(value)}")
    return value


def _tag(given: Mapping[str, Sequence[str]]) -> str:
    value = _one(given, "tag")
    if len(value) > 64:
        raise BadParameterError("tag", f"must have at most 64 characters, has {len(value)}")
    return value


def _number(given: Mapping[str, Sequence[str]], name: str) -> float:
    value = _one(given, name)
    if not _NUMBER.fullmatch(value):  # float() takes more: other digits, spaces, underscores
        raise BadParameterError(name, f"must be a number, is {value[:20]!r}")
    number = float(value)
    if not math.isfinite(number):
        raise BadParameterError(name, f"must be finite, is {value[:20]!r}")
    return number


def _degrees(given: Mapping[str, Sequence[str]], name: str, limit: int) -> float:
    number = _number(given, name)
    if not -limit <= number <= limit:
        raise BadParameterError(name, f"must be from -{limit} to {limit} degrees, is {number:g}")
    return number


def _radius(given: Mapping[str, Sequence[str]]) -> float:
    number = _number(given, "radius")
    if number <= 0:
        raise BadParameterError("radius", f"must be more than 0 metres, is {number:g}")
    return number


def _token(given: Mapping[str, Sequence[str]]) -> str:
    value = _one(given, "resume")
    if not _TOKEN.fullmatch(value):
        raise BadParameterError("resume", "must be a token from a `welcome` message")
    return value


def _count(given: Mapping[str, Sequence[str]], name: str) -> int:
    value = _one(given, name)
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        raise BadParameterError(name, f"must be a whole number from 0, is {value[:20]!r}")
    return int(value)
