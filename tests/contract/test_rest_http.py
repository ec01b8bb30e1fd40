"""``edge/dev-client/rest.http``: every request is answered as promised, and every path is in it."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from websockets.sync.client import connect

from cloudmatch_analytics.settings import AnalyticsSettings
from cloudmatch_bridge_rabbit.settings import BridgeSettings
from cloudmatch_bus.process.health import LIVENESS, METRICS, READINESS, Health
from cloudmatch_edge.admission import bearer
from cloudmatch_edge.admission.denied import DeniedError
from cloudmatch_edge.dialects.parameters import BadParameterError, parse
from cloudmatch_edge.settings import EdgeSettings
from cloudmatch_edge.sockets import pages
from cloudmatch_journal.settings import JournalSettings
from cloudmatch_match_engine.settings import MatchEngineSettings
from harness import NatsServer, Service
from harness.processes import ROOT

CONNECT = "/device/connect"
TEXT = (ROOT / "edge/dev-client/rest.http").read_text()
VARIABLES = dict(re.findall(r"^@(\S+) = (.+)$", TEXT, re.MULTILINE))


class Request(NamedTuple):
    """One request of the file."""

    status: int  # promised by its title
    method: str
    service: str  # the variable for host and port
    target: str  # path and query
    headers: dict[str, str]
    body: str

    @property
    def path(self) -> str:
        return urlsplit(self.target).path


METHODS = "DELETE|GET|HEAD|OPTIONS|POST|WEBSOCKET"


def requests() -> Iterator[Request]:
    for block in re.split(r"^### ", TEXT, flags=re.MULTILINE)[1:]:
        title, _, rest = block.partition("\n")
        if title.startswith("----"):
            continue
        head, _, body = rest.strip().partition("\n\n")
        line, *headers = head.splitlines()
        found = re.fullmatch(
            r"(DELETE|GET|HEAD|OPTIONS|POST|WEBSOCKET) (?:http|ws)://\{\{(\w+)\}\}(/.*)", line
        )
        assert found, f"{line!r} under {title!r} is no request"
        assert found[2] in VARIABLES
        target = re.sub(r"\{\{(\w+)\}\}", lambda m: VARIABLES[m[1]], found[3])
        status = re.match(r"(\d{3}): \S", title)
        assert status, f"{title!r} does not begin with a status"
        yield Request(
            int(status[1]), found[1], found[2], target, dict(h.split(": ") for h in headers), body.strip()
        )


REQUESTS = list(requests())


def of(service: str) -> list[Request]:
    return [r for r in REQUESTS if r.service == service]


def test_the_ports_are_those_on_which_the_services_listen_by_default() -> None:
    ports = {
        "edge": EdgeSettings().port,
        "journal": JournalSettings().port,
        "engine": MatchEngineSettings().port,
        "bridge": BridgeSettings().port,
        "analytics": AnalyticsSettings().port,
    }
    assert {name: VARIABLES[name] for name in ports} == {n: f"127.0.0.1:{p}" for n, p in ports.items()}


@pytest.mark.parametrize("service", ["journal", "engine", "bridge", "analytics"])
def test_every_request_is_answered_as_its_title_says(services: dict[str, Litestar], service: str) -> None:
    with TestClient(services[service], raise_server_exceptions=False) as client:
        for request in of(service):
            answer = client.request(
                request.method, request.target, headers=request.headers, content=request.body
            )
            assert answer.status_code == request.status, (request, answer.text)
            if answer.status_code >= 400:
                assert detail(answer.json(), request), request


def detail(answer: Any, request: Request) -> object:
    """Return what an error says: of an unknown device in a JSON string, as in 2019."""
    if request.path.startswith("/device/state/"):
        assert isinstance(answer, str)
        return answer
    return answer["error"]["detail"]


@pytest.mark.parametrize("service", ["journal", "engine", "bridge", "analytics"])
def test_every_path_of_a_service_is_in_the_file(services: dict[str, Litestar], service: str) -> None:
    for route in services[service].routes:
        if route.path.startswith("/schema"):
            continue
        pattern = re.sub(r"\\\{\w+:(int|path)\\\}", ".+", re.escape(route.path))
        assert any(re.fullmatch(pattern, r.path) for r in of(service)), route.path


def test_the_edge_decides_as_the_titles_say() -> None:
    for request in of("edge"):
        query = urlsplit(request.target).query
        client = pages.dev_client("edge-0", {})
        if request.method == "OPTIONS":
            assert pages.options(request.path, (CONNECT, *client)).status == request.status, request
        elif request.path != CONNECT:
            known = request.headers.get("If-None-Match", "")
            assert pages.answer(request.path, Health(), client, known).status == request.status, request
        elif "Sec-WebSocket-Protocol" not in request.headers:  # the listener decides on those
            assert request.status in verdicts(query), request


def verdicts(query: str) -> tuple[int, ...]:
    """Statuses with which the edge may answer these parameters."""
    try:
        bearer.check_query(query)
        parse(query)
    except DeniedError as denied:
        return (denied.status,)
    except BadParameterError as bad:
        return (pages.bad_parameter(bad).status,)
    return (101, 426)  # with and without an upgrade


def test_every_path_of_the_edge_is_in_the_file() -> None:
    paths = {"/", "/services.json", "/cloudmatch.js", LIVENESS, READINESS, METRICS, CONNECT}
    assert paths <= {r.path for r in of("edge")}


@pytest.mark.servers
def test_a_running_edge_answers_as_the_titles_say(
    nats_server: NatsServer, start: Callable[..., Service]
) -> None:
    edge = start("edge", {"CLOUDMATCH_NATS_URL": nats_server.url})
    for request in of("edge"):
        if request.method == "WEBSOCKET":
            with connect(edge.url.replace("http", "ws") + request.target) as socket:
                assert str(socket.recv(10)) == "Connected and handled by edge-0"
            continue
        status, text = ask(edge.url + request.target, request)
        assert status == request.status, (request, text)
        if status in (400, 404):
            assert json.loads(text)["error"]["detail"], request


def ask(url: str, request: Request) -> tuple[int, str]:
    """Return status and text of the answer to a request."""
    asked = urllib.request.Request(url, headers=request.headers, method=request.method)  # noqa: S310 # always http, on loopback
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310 # the same
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
