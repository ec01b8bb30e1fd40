"""What the edge answers to plain HTTP."""

import json

from cloudmatch_bus.health import Health
from cloudmatch_edge import pages
from cloudmatch_edge.parameters import BadParameterError


def test_probes_metrics_and_the_client_page_are_served() -> None:
    health = Health()
    assert pages.answer("/", health, b"<page>") == pages.Page(200, pages.HTML, b"<page>")
    assert pages.answer("/system/liveness", health, b"").status == 200
    assert pages.answer("/system/readiness", health, b"").status == 200
    assert b"python_info" in pages.answer("/metrics", health, b"").body


def test_readiness_gives_the_reasons() -> None:
    health = Health()
    health.check("nats", lambda: "not connected to NATS")
    page = pages.answer("/system/readiness", health, b"")
    assert page.status == 503
    assert json.loads(page.body) == {"ready": False, "reasons": {"nats": "not connected to NATS"}}


def test_unknown_paths_are_404_in_the_shape_of_all_errors() -> None:
    page = pages.answer("/nowhere", Health(), b"")
    assert page.status == 404
    assert json.loads(page.body)["error"]["code"] == "not_found"


def test_a_bad_parameter_is_named() -> None:
    page = pages.bad_parameter(BadParameterError("lat", "is required"))
    assert page.status == 400
    assert json.loads(page.body) == {
        "error": {"code": "bad_parameter", "detail": "lat is required", "parameter": "lat"}
    }


def test_the_client_page_is_found() -> None:
    assert b"<html" in pages.dev_client()
