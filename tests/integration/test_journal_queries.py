"""What a neighbour does to a real journal: dear queries, facts that nobody can read."""

import contextlib
import select
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from cloudmatch_bus.contract.deliveries import span
from cloudmatch_bus.contract.messages import DeliveriesCounted
from harness import NatsServer, Service, eventually
from harness.facts import facts

pytestmark = pytest.mark.servers

Start = Callable[..., Service]


def connection(service: Service) -> socket.socket:
    address = urlsplit(service.url)
    return socket.create_connection((address.hostname, address.port), timeout=20)


async def test_while_dear_queries_are_answered_so_are_probes_and_facts_are_stored(
    nats_server: NatsServer, start: Start
) -> None:
    service = start("journal", {"CLOUDMATCH_NATS_URL": nats_server.url})
    spans = [span("a", f"peer-{number}", number, 0, [4] * 1000) for number in range(900)]
    dear = DeliveriesCounted(
        app="default", at=1, source="edge-0", incarnation=1, number=1, spans=spans
    )  # a page of 900,000 sizes
    async with facts(nats_server.url) as bus:
        bus.publisher.publish(dear)
        await eventually(lambda: service.metric("cloudmatch_journal_events_total") == 1)
        unanswered = 0
        for stored in range(2, 12):  # a machine that is busy elsewhere may answer all before it asks again
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(connection(service)) for _ in range(12)]
                for each in clients:
                    each.sendall(b"GET /device/events/a HTTP/1.1\r\nHost: journal\r\n\r\n")
                assert service.get("/system/liveness")[0] == 200
                bus.payloads(7)
                await eventually(lambda n=stored: service.metric("cloudmatch_journal_events_total") == n)
                answered, _, _ = select.select(clients, [], [], 0)
                unanswered += len(clients) - len(answered)
                for each in clients:
                    assert each.recv(4096).startswith(b"HTTP/1.1 200 OK")
            if unanswered:
                break
        assert unanswered


async def test_facts_that_nobody_can_read_are_counted_and_the_next_one_is_stored(
    nats_server: NatsServer, start: Start
) -> None:
    service = start("journal", {"CLOUDMATCH_NATS_URL": nats_server.url})
    poison = [
        (b"cm.v1.x.ev.left.\xff\xfe", b"{}"),
        (b"cm.v1.x.ev.\xc3.a", b'{"type":"lost"}'),
        (b"cm.v1.x.ev.left.a", b"\xff"),
        (b"cm.v1.x.ev.left.a", b"[" * 100_000),
    ]
    async with facts(nats_server.url) as bus:
        address = urlsplit(nats_server.url)
        with socket.create_connection((address.hostname, address.port), timeout=20) as client:
            client.recv(4096)
            client.sendall(b"CONNECT {}\r\n")
            for subject, payload in poison:
                client.sendall(b"PUB %b %d\r\n%b\r\n" % (subject, len(payload), payload))
            client.sendall(b"PING\r\n")
            while b"PONG" not in client.recv(4096):
                pass
        bus.payloads(7)
        await bus.kept()
        await eventually(lambda: service.metric("cloudmatch_journal_events_total") == 1)
    assert service.metric("cloudmatch_feed_undecodable_total") == len(poison)
    assert service.get("/system/readiness")[0] == 200
