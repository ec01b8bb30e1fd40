"""What the edge answers to plain HTTP: the dev client page, probes, metrics, errors."""

import json
from pathlib import Path
from typing import NamedTuple

from cloudmatch_bus.health import LIVENESS, METRICS, METRICS_TYPE, READINESS, Health, metrics
from cloudmatch_edge.parameters import BadParameterError

JSON = "application/json"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"


class Page(NamedTuple):
    """An HTTP answer."""

    status: int
    media_type: str
    body: bytes


def dev_client() -> bytes:
    """Read the dev client page: beside the package when installed, in the room's folder in a checkout."""
    here = Path(__file__).parent
    for folder in (here / "dev-client", here.parents[1] / "dev-client"):
        if (page := folder / "index.html").exists():
            return page.read_bytes()
    raise FileNotFoundError("dev-client/index.html")


def answer(path: str, health: Health, client: bytes) -> Page:
    """Answer a GET of `path` that is no connection of a device."""
    if path == "/":
        return Page(200, HTML, client)
    if path == LIVENESS:
        return Page(200, TEXT, b"alive")
    if path == READINESS:
        status, body = health.readiness()
        return Page(status, JSON, body)
    if path == METRICS:
        return Page(200, METRICS_TYPE, metrics())
    return error(404, "not_found", f"there is nothing at {path}")


def error(status: int, code: str, detail: str, **more: str) -> Page:
    """Make an error in the one shape that all errors have."""
    return Page(status, JSON, json.dumps({"error": {"code": code, "detail": detail, **more}}).encode())


def bad_parameter(bad: BadParameterError) -> Page:
    """Refuse a connection whose parameters cannot be used."""
    return error(400, "bad_parameter", f"{bad.parameter} {bad.detail}", parameter=bad.parameter)
