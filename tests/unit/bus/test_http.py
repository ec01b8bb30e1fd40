"""Who may read what services answer: pages of the origins that are set, and only by GET."""

from collections.abc import Iterator

import pytest
from litestar import get
from litestar.exceptions import NotFoundException
from litestar.testing import TestClient

from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.http import application
from cloudmatch_bus.process.settings import HttpSettings, SettingsError, read

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
def test_a_page_that_is_named_may_read_every_answer_errors_included(client: TestClient, path: str) -> None:
    answer = client.get(path, headers={"Origin": PAGE})
    assert answer.headers[ALLOW] == PAGE
    assert "access-control-allow-credentials" not in answer.headers


def test_any_other_page_may_not(client: TestClient) -> None:
    assert ALLOW not in client.get("/metrics", headers={"Origin": "http://stranger"}).headers


def test_nothing_but_get_is_allowed_from_elsewhere(client: TestClient) -> None:
    asking = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    answer = client.options("/missing", headers=asking)
    assert "POST" not in answer.headers.get("access-control-allow-methods", "")
    assert answer.status_code == 400


def test_without_a_setting_no_page_may() -> None:
    with TestClient(application("test", Health())) as client:
        assert ALLOW not in client.get("/metrics", headers={"Origin": PAGE}).headers


def test_origins_are_read_one_by_one_and_what_is_none_is_refused() -> None:
    assert read(HttpSettings, {}).allowed_origins == []
    settings = read(HttpSettings, {"CLOUDMATCH_HTTP_ORIGINS": "http://a:1,https://b"})
    assert settings.allowed_origins == ["http://a:1", "https://b"]
    for wrong in ("*", "a:1", "http://a/", "http://a, http://b"):
        with pytest.raises(SettingsError, match="CLOUDMATCH_HTTP_ORIGINS"):
            read(HttpSettings, {"CLOUDMATCH_HTTP_ORIGINS": wrong})
