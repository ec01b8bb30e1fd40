"""Clients of 2019 on the legacy ports: the four requests of its collection, and a device.

The collection asked the service for its probes, and sent a report and asked for a state at the port of the
database. The harness starts each service on a free legacy port in place of 80, 81 and 85.
"""

import http.client
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from websockets.asyncio.client import connect

from harness import NatsServer, Service, eventually, eventually_sync, free_port
from harness.classic import device, receive_text

pytestmark = pytest.mark.servers
REPORT = '{"deviceId":"c","eventType":"connectionOpen","amount":"300"}'


class Ports(NamedTuple):
    """The legacy ports of running services."""

    edge: int
    journal: int
    analytics: int


@pytest.fixture
def ports(
    nats_server: NatsServer,
    amqp_url: str,
    kafka_broker: Any,
    start: Callable[..., Service],
) -> Ports:
    ports = Ports(free_port(), free_port(), free_port())
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    start("match-engine", bus)
    start("edge", {**bus, "CLOUDMATCH_EDGE_LEGACY_PORT": str(ports.edge)})
    start("journal", {**bus, "CLOUDMATCH_JOURNAL_LEGACY_PORT": str(ports.journal)})
    windows = {"CLOUDMATCH_AMQP_URL": amqp_url, "CLOUDMATCH_ANALYTICS_LEGACY_PORT": str(ports.analytics)}
    start("analytics", {**windows, **kafka_broker.settings}, deadline=40)
    return ports


def ask(port: int, method: str, path: str, body: str | None = None) -> tuple[int, str, str]:
    """Send a request as the collection did; return status, Content-Type and text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    headers = {"Content-Type": "application/json; charset=utf-8"} if body else {}
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers.get_content_type(), answer.read().decode()
    finally:
        connection.close()


def test_the_four_requests_of_the_collection_are_answered_as_in_2019(ports: Ports) -> None:
    for port in ports:
        assert ask(port, "GET", "/system/liveness")[:2] == (200, "text/plain")
        assert ask(port, "GET", "/system/readiness")[:2] == (200, "application/json")

    unknown = (404, "application/json", '"deviceId c could not be found"')
    assert ask(ports.journal, "GET", "/device/state/c") == unknown
    assert ask(ports.journal, "POST", "/device/event", REPORT) == (200, "application/json", '"Thanks!"')
    eventually_sync(lambda: ask(ports.journal, "GET", "/device/state/c") != unknown, what="the state of c")
    status, content_type, text = ask(ports.journal, "GET", "/device/state/c")
    assert (status, content_type) == (200, "application/json")
    state = json.loads(text)
    assert (state["deviceId"], state["connectionsOpen"], state["bytesSent"]) == ("c", 300, 0)


async def test_a_device_of_2019_matches_one_on_the_other_port_and_its_bytes_are_counted(
    ports: Ports, start: Callable[..., Service], nats_server: NatsServer
) -> None:
    other = start("edge", {"CLOUDMATCH_NATS_URL": nats_server.url, "CLOUDMATCH_EDGE_NAME": "edge-9"})
    where = f"ws://127.0.0.1:{ports.edge}/device/connect?id=a&lat=1&lon=1"
    async with connect(where) as a, device(other, "c", 1, 2) as c:
        assert await receive_text(a) == "Connected and handled by edge-0"
        assert await receive_text(a) == "I matched with device 'c'!"
        assert await receive_text(c) == "I matched with device 'a'!"
        await a.send("ciao")
        assert await receive_text(c) == "device a says: ciao"
        await eventually(
            lambda: '"bytesSent":4' in ask(ports.journal, "GET", "/device/state/a")[2], what="4 bytes of a"
        )
