"""What the edge answers to plain HTTP."""

import json
import re
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.settings import SettingsError, read
from cloudmatch_edge.dialects.parameters import BadParameterError
from cloudmatch_edge.settings import EdgeSettings
from cloudmatch_edge.sockets import pages
from cloudmatch_edge.sockets.pages import Page

ROOM = Path(__file__).parents[3] / "edge"
PLACES = {"journal": ["http://127.0.0.1:1"], "match-engine": ["https://m.example/a", "http://m:2"]}


def test_probes_and_metrics_are_served() -> None:
    health = Health()
    assert pages.answer("/system/liveness", health, {}).status == 200
    assert pages.answer("/system/readiness", health, {}).status == 200
    assert b"python_info" in pages.answer("/metrics", health, {}).body


def test_readiness_gives_the_reasons() -> None:
    health = Health()
    health.set_check("nats", lambda: "not connected to NATS")
    page = pages.answer("/system/readiness", health, {})
    assert page.status == 503
    assert json.loads(page.body) == {"ready": False, "reasons": {"nats": "not connected to NATS"}}


def test_unknown_paths_are_404_in_the_shape_of_all_errors() -> None:
    for path in ("/nowhere", "/web/", "/web/../settings.py", "/web/index.html"):
        page = pages.answer(path, Health(), pages.dev_client("edge-0", {}))
        assert page.status == 404
        assert json.loads(page.body)["error"]["code"] == "not_found"


def test_a_bad_parameter_is_named() -> None:
    page = pages.bad_parameter(BadParameterError("lat", "is required"))
    assert page.status == 400
    assert json.loads(page.body) == {
        "error": {"code": "bad_parameter", "detail": "lat is required", "parameter": "lat"}
    }


# -- the dev client


@pytest.fixture
def client() -> dict[str, Page]:
    return pages.dev_client("edge-7", PLACES, [80])


def test_all_that_the_page_refers_to_is_served_with_its_type(client: dict[str, Page]) -> None:
    text = client["/"].body.decode()
    wanted = {f"/{path}" for path in re.findall(r'(?:href|src)="([^"#:,]+)"', text)}
    for path, page in client.items():
        if path.endswith(".js"):
            found = re.findall(r'from "(\.\.?/[^"]+)"', page.body.decode())
            wanted |= {f"/web/{name}".replace("/web/../", "/").replace("/./", "/") for name in found}
            assert page.media_type == "text/javascript; charset=utf-8"
    assert {"/web/main.js", "/web/style.css", "/cloudmatch.js"} <= wanted <= client.keys()
    assert client.keys() == wanted | {"/", "/services.json"}


def test_the_page_runs_its_own_files_only_and_reads_only_the_services_it_is_told_of(
    client: dict[str, Page],
) -> None:
    policy = dict(
        rule.split(" ", 1) for rule in dict(client["/"].headers)["Content-Security-Policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["connect-src"] == "'self' ws: wss: http://127.0.0.1:1 http://m:2 https://m.example"
    text = client["/"].body.decode()
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=", text)


def test_the_page_is_told_where_services_are(client: dict[str, Page]) -> None:
    assert json.loads(client["/services.json"].body) == {"edge": "edge-7", "ports": [80], "services": PLACES}


def test_what_a_browser_has_is_not_sent_again(client: dict[str, Page]) -> None:
    first = pages.answer("/web/main.js", Health(), client)
    etag = dict(first.headers)["ETag"]
    again = pages.answer("/web/main.js", Health(), client, f'"other", {etag}')
    assert (again.status, again.body, dict(again.headers)["ETag"]) == (304, b"", etag)
    assert pages.answer("/web/main.js", Health(), client, '"other"').status == 200


def test_the_wheel_has_the_whole_page(client: dict[str, Page], tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOM)).build(directory=str(tmp_path))
    packed = zipfile.ZipFile(wheel)
    for path, page in client.items():
        if path != "/services.json":
            name = "index.html" if path == "/" else path.rpartition("/")[2]
            assert packed.read(f"cloudmatch_edge/web/{name}") == page.body


@pytest.mark.parametrize("text", ["journal", "journal=127.0.0.1:8081", "post=http://a", "journal=http://a b"])
def test_a_place_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="CLOUDMATCH_EDGE_SERVICES"):
        read(EdgeSettings, {"CLOUDMATCH_EDGE_SERVICES": text})


def test_places_are_read_by_service() -> None:
    text = "journal=http://a:1/,match-engine=http://b:2,match-engine=https://c/d"
    assert read(EdgeSettings, {"CLOUDMATCH_EDGE_SERVICES": text}).places == {
        "journal": ["http://a:1"],
        "match-engine": ["http://b:2", "https://c/d"],
    }


def test_a_redirect_names_the_place() -> None:
    page = pages.redirect("/cm/")
    assert (page.status, dict(page.headers)["Location"]) == (308, "/cm/")


@pytest.mark.parametrize("prefix", ["cm", "/cm/", "/c m", "/cm?x", "/"])
def test_a_path_prefix_that_makes_no_sense_is_refused(prefix: str) -> None:
    with pytest.raises(SettingsError, match="CLOUDMATCH_EDGE_PATH_PREFIX"):
        read(EdgeSettings, {"CLOUDMATCH_EDGE_PATH_PREFIX": prefix})
