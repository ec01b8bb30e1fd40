"""Every route of every service, with and without a key that opens it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.testing import TestClient

from cloudmatch_bus.process.health import LIVENESS, METRICS, READINESS
from cloudmatch_bus.process.http_keys import SCOPES, Key, Keys, digest, line, scopes
from contract.conftest import applications

# probes, the page of analytics, which says nothing by itself, and what describes the routes
OPEN = {LIVENESS, READINESS, METRICS, "/", "/web/{name:path}"}
VALUES = {"device_id": "a", "match_id": "1"}
REPORT = {"deviceId": "a", "eventType": "bytesSent", "amount": 1}


class Route(NamedTuple):
    """A way to ask a service."""

    service: str
    method: str
    path: str
    scopes: tuple[str, ...]

    def ask(self, client: TestClient[Litestar], key: str = "", app: str = "") -> Any:
        """Ask, about an app."""
        path = re.sub(r"\{(\w+):\w+\}", lambda found: VALUES[found[1]], self.path)
        return client.request(
            self.method,
            path,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            params={"id": "a", "device": "a"} | ({"app": app} if app else {}),
            json=REPORT | ({"app": app} if app else {}) if self.method == "POST" else None,
        )


def routes(services: dict[str, Litestar]) -> Iterator[Route]:
    for service, app in services.items():
        for route in app.routes:
            for handler in getattr(route, "route_handlers", ()):
                if isinstance(handler, HTTPRouteHandler) and not route.path.startswith("/schema"):
                    for method in sorted(set(handler.http_methods) - {"OPTIONS"}):
                        found = tuple(map(str, scopes(handler.guards or ())))
                        yield Route(service, method, route.path, found)


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[dict[str, Litestar]]:
    """The services, with a key for each scope: of all apps "all:<scope>", of app demo "demo:<scope>"."""
    file = tmp_path / "keys"
    made = [
        Key(f"{app}-{number}", digest(f"{app}:{scope}"), frozenset({scope}), None if app == "all" else app)
        for number, scope in enumerate(SCOPES)
        for app in ("all", "demo")
    ]
    file.write_text("\n".join(map(line, made)))
    (tmp_path / "journal").mkdir()
    with applications(tmp_path / "journal", Keys(file)) as services:
        yield services


def test_every_route_asks_for_one_scope(services: dict[str, Litestar]) -> None:
    found = {(route.service, route.path, route.method): route.scopes for route in routes(services)}
    unguarded = {path for (_, path, _), asked in found.items() if not asked}
    assert unguarded == OPEN
    assert {len(asked) for asked in found.values()} == {0, 1}
    assert len([asked for asked in found.values() if asked]) >= 13


def test_a_route_opens_for_its_scope_and_its_app_only(keyed: dict[str, Litestar]) -> None:
    clients = {name: TestClient(app) for name, app in keyed.items()}
    for route in routes(keyed):
        if not route.scopes:
            continue
        client, (scope,) = clients[route.service], route.scopes
        other = next(each for each in SCOPES if each != scope)
        nobody = route.ask(client)
        assert nobody.status_code == 401, route
        assert nobody.json()["error"]["code"] == "unauthorized"
        assert nobody.headers["WWW-Authenticate"] == "Bearer"
        assert route.ask(client, "unknown").status_code == 401, route
        assert route.ask(client, f"all:{other}").status_code == 403, route
        assert route.ask(client, f"demo:{other}", "demo").status_code == 403, route
        assert route.ask(client, f"all:{scope}").status_code not in (401, 403), route
        assert route.ask(client, f"demo:{scope}", "demo").status_code not in (401, 403), route
        if route.path in ("/events", "/match/{match_id:int}"):  # which names no app
            continue
        foreign = route.ask(client, f"demo:{scope}", "default")
        assert (foreign.status_code, foreign.json()["error"]["code"]) == (403, "forbidden"), route


def test_a_key_of_one_app_shows_nothing_of_another(keyed: dict[str, Litestar]) -> None:
    journal = TestClient(keyed["journal"])

    def ask(path: str, key: str) -> Any:
        return journal.get(path, headers={"Authorization": f"Bearer {key}"})

    assert len(ask("/events", "all:facts:read").json()["events"]) == 1
    assert ask("/events", "demo:facts:read").json()["events"] == []
    assert ask("/match/1", "all:facts:read").status_code == 200
    assert ask("/match/1", "demo:facts:read").status_code == 404
    mine = {"Authorization": "Bearer demo:windows:read"}
    senders = TestClient(keyed["analytics"]).get("/senders", headers=mine)
    assert (senders.status_code, senders.json()) == (200, [])


def test_probes_are_open(keyed: dict[str, Litestar]) -> None:
    for app in keyed.values():
        assert TestClient(app).get(LIVENESS).status_code == 200
