"""The HTTP API of services: probes, errors, and cross-origin access by GET from allowed origins only."""

from collections.abc import Iterator

import pytest
from litestar import get
from litestar.exceptions import NotFoundException
from litestar.params import FromQuery
from litestar.testing import TestClient

from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.http import application

PAGE = "http://127.0.0.1:8080"
ALLOW = "access-control-allow-origin"


@get("/missing", sync_to_thread=False)
def missing() -> None:
    """Answer with an error."""
    raise NotFoundException("it is not here")


@pytest.fixture
def client() -> Iterator[TestClient]:
    health = Health()
    health.set_check("nats", lambda: "not connected to NATS")
    with TestClient(application("test", health, [missing], [PAGE, "http://other"])) as client:
        yield client


@pytest.mark.parametrize(
    "path", ["/system/liveness", "/system/readiness", "/metrics", "/missing", "/nowhere"]
)
def test_a_page_of_an_allowed_origin_may_read_every_response_even_errors(
    client: TestClient, path: str
) -> None:
    response = client.get(path, headers={"Origin": PAGE})
    assert response.headers[ALLOW] == PAGE
    assert "access-control-allow-credentials" not in response.headers


def test_a_page_of_any_other_origin_may_not_read_responses(client: TestClient) -> None:
    assert ALLOW not in client.get("/metrics", headers={"Origin": "http://elsewhere"}).headers


def test_only_get_is_allowed_from_other_origins(client: TestClient) -> None:
    asking = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    response = client.options("/missing", headers=asking)
    assert "POST" not in response.headers.get("access-control-allow-methods", "")
    assert response.status_code == 400


def test_without_allowed_origins_no_page_may_read_responses() -> None:
    with TestClient(application("test", Health())) as client:
        assert ALLOW not in client.get("/metrics", headers={"Origin": PAGE}).headers


@get("/broken", sync_to_thread=False)
def broken() -> None:
    """Fail by a bug."""
    raise ZeroDivisionError


@get("/validated", sync_to_thread=False)
def validated(count: FromQuery[int]) -> int:
    """Return the query parameter `count`."""
    return count


def test_probes_and_metrics_have_their_status_and_type() -> None:
    health = Health()
    with TestClient(application("test", health)) as client:
        assert client.get("/system/liveness").text == "alive"
        assert client.get("/system/readiness").status_code == 200
        health.set_check("nats", lambda: "not connected to NATS")
        response = client.get("/system/readiness")
        assert (response.status_code, response.json()) == (
            503,
            {"ready": False, "reasons": {"nats": "not connected to NATS"}},
        )
        assert client.get("/metrics").headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_errors_have_a_code_and_a_detail_and_bugs_show_nothing_of_themselves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with TestClient(
        application("test", Health(), [missing, broken, validated]), raise_server_exceptions=False
    ) as client:
        response = client.get("/missing")
        assert response.json() == {"error": {"code": "not_found", "detail": "it is not here"}}
        response = client.get("/validated?count=x")
        assert (response.status_code, response.json()["error"]["code"]) == (400, "bad_request")
        assert response.json()["error"]["detail"].startswith("count: ")
        response = client.post("/missing")
        assert (response.status_code, response.json()["error"]["code"]) == (405, "method_not_allowed")
        assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
        response = client.get("/broken")
        assert response.status_code == 500
        assert response.json() == {"error": {"code": "internal", "detail": "see the log"}}
        assert "ZeroDivisionError" in caplog.text
