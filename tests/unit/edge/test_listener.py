"""What a listener does with all its sockets."""

import json
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, cast

import pytest

from cloudmatch_bus.process.health import Health
from cloudmatch_edge.admission import key_set
from cloudmatch_edge.admission.permit import OPEN, Admitted, Permit
from cloudmatch_edge.settings import EdgeSettings
from cloudmatch_edge.sockets.connection import Connection
from cloudmatch_edge.sockets.listener import Listener
from cloudmatch_edge.sockets.pages import Page
from cloudmatch_edge.sockets.quotas import SPARE
from cloudmatch_edge.sockets.request_head import RefusedError
from harness.tokens import ISSUER, Signer, jwk_set, signer
from simulation.virtual_time import VirtualLoop

REQUEST = b"GET /device/connect?id=a&lat=1&lon=1 HTTP/1.1\r\n\r\n"


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    virtual = VirtualLoop()
    yield virtual
    virtual.close()


class Socket:
    """A connection that ends as soon as it is told to, and knows when that was (s)."""

    peer = None

    def __init__(self, listener: Listener, loop: VirtualLoop) -> None:
        self._listener = listener
        self._loop = loop
        self.ended_at = -1.0

    def go_away(self) -> None:
        self.ended_at = self._loop.time()
        self._listener.closed(cast("Connection", self))


def ends(loop: VirtualLoop, count: int) -> list[float]:
    """When each of `count` connections ends at a shutdown, in s."""
    listener = Listener(EdgeSettings(), Health())
    sockets = [Socket(listener, loop) for _ in range(count)]
    for socket in sockets:
        listener.opened(cast("Connection", socket))
    loop.run_until_complete(listener.close())
    return sorted(socket.ended_at for socket in sockets)


def test_a_shutdown_closes_devices_in_batches_lest_all_return_at_once(loop: VirtualLoop) -> None:
    assert ends(loop, 100) == pytest.approx([round_ * 0.02 for round_ in range(5) for _ in range(20)])


def test_a_shutdown_of_many_devices_takes_two_seconds_at_most(loop: VirtualLoop) -> None:
    at = ends(loop, 10_000)
    assert at == pytest.approx([round_ * 0.02 for round_ in range(100) for _ in range(100)])


class Hub:
    """The devices of an edge, and what a test says of them."""

    def __init__(self) -> None:
        self.full: str | None = None
        self.known = self.app_is_full = False
        self.seconds = 0.0
        self.joined = 0
        self.grace = 30.0

    def replaces(self, _: object) -> bool:
        return self.known

    def app_full(self, _: object) -> bool:
        return self.app_is_full

    def wait(self, _: object) -> float:
        return self.seconds

    def join(self, *_: object, **__: object) -> None:
        self.joined += 1


class Edge:
    """An edge with these settings."""

    def __init__(self, **settings: Any) -> None:
        self.hub = Hub()
        self.listener = Listener(EdgeSettings(**settings), Health())
        self.listener.open(cast("Any", self.hub))

    def open(self, peer: str, head: bytes = REQUEST) -> tuple[Any, Admitted | Page | bytes]:
        """Open a connection and let it send a request; return it, and the answer."""
        connection = cast("Any", FakeConnection(peer))
        unread = self.listener.opened(connection)
        if isinstance(unread, bytes):
            return connection, unread
        found = self.listener.parse(head, connection)
        assert found is not None
        return connection, self.listener.respond(found[0], connection)

    def connect(self, peer: str, head: bytes = REQUEST) -> str:
        """Connect a device that stays; return "joined", or the code that refuses it."""
        connection, answer = self.open(peer, head)
        if isinstance(answer, Admitted):
            self.listener.join(answer, connection, speaks_v1=False, waited=0.0)
            return "joined"
        self.listener.closed(connection)
        assert isinstance(answer, Page)
        headers = dict(answer.headers)
        assert answer.status in (429, 503)
        assert int(headers["Retry-After"]) >= 1
        code: str = json.loads(answer.body)["error"]["code"]
        return code


class FakeConnection:
    """A connection as the listener sees it."""

    def __init__(self, peer: str) -> None:
        self.peer = ip_address(peer)

    def write(self, _: object) -> None:
        """Ignore it."""


def forwarded(address: str) -> bytes:
    return REQUEST.replace(b"\r\n\r\n", f"\r\nX-Forwarded-For: {address}\r\n\r\n".encode())


async def test_an_address_has_so_many_connections_and_others_theirs() -> None:
    edge = Edge(connections_per_address=2, connects_per_address=0)
    assert [edge.connect("203.0.113.1") for _ in range(3)] == ["joined", "joined", "too_many_connections"]
    assert edge.connect("203.0.113.2") == "joined"
    assert {edge.connect("127.0.0.1") for _ in range(9)} == {"joined"}


async def test_an_address_connects_so_many_devices_at_once() -> None:
    edge = Edge(connections_per_address=0, connects_per_address=0.2)
    assert [edge.connect("2001:db8::1") for _ in range(2)] == ["joined"] * 2
    assert edge.connect("2001:db8::2") == "too_many_connections"
    assert edge.connect("2001:db8:0:1::2") == "joined"
    assert edge.hub.joined == 3


async def test_probes_and_pages_are_no_devices_and_a_flood_is_not_read() -> None:
    edge = Edge(connections_per_address=2)
    for _ in range(2 + SPARE):
        _, answer = edge.open("203.0.113.1", b"GET /system/liveness HTTP/1.1\r\n\r\n")
        assert isinstance(answer, Page)
        assert answer.status == 200
    _, unread = edge.open("203.0.113.1")
    assert isinstance(unread, bytes)
    assert unread.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"Retry-After: 5\r\n" in unread


async def test_devices_behind_a_trusted_proxy_count_by_their_own_addresses() -> None:
    edge = Edge(connections_per_address=1, trusted_proxies="10.0.0.0/8")
    for number in range(10):
        assert edge.connect("10.0.0.1", forwarded(f"203.0.113.{number}")) == "joined"
    assert edge.connect("10.0.0.2", forwarded("203.0.113.1")) == "too_many_connections"
    assert edge.connect("203.0.113.1") == "too_many_connections"
    assert edge.connect("10.0.0.1", b"PROXY TCP4 203.0.113.77 10.0.0.1 1 2\r\n" + REQUEST) == "joined"
    assert edge.connect("203.0.113.77") == "too_many_connections"


async def test_nobody_else_is_believed() -> None:
    edge = Edge(connections_per_address=1, trusted_proxies="10.0.0.0/8")
    assert edge.connect("203.0.113.1", forwarded("203.0.113.2")) == "joined"
    assert edge.connect("203.0.113.1", forwarded("203.0.113.3")) == "too_many_connections"
    with pytest.raises(RefusedError, match=r"CLOUDMATCH_EDGE_TRUSTED_PROXIES does not name 203\.0\.113\.1"):
        edge.open("203.0.113.1", b"PROXY TCP4 203.0.113.77 10.0.0.1 1 2\r\n" + REQUEST)


async def test_what_a_proxy_says_is_waited_for_and_refused_if_it_is_malformed() -> None:
    edge = Edge(trusted_proxies="10.0.0.1")
    connection = cast("Any", FakeConnection("10.0.0.1"))
    assert edge.listener.parse(b"PROXY TCP4 1", connection) is None
    for head in (b"PROXY nonsense\r\n" + REQUEST, forwarded("nonsense")):
        with pytest.raises(RefusedError) as refused:
            edge.listener.parse(head, connection)
        assert refused.value.page.status == 400


async def test_ids_apps_and_full_edges_refuse_too_but_known_devices_replace() -> None:
    edge = Edge()
    edge.hub.seconds = 2.5
    assert edge.connect("203.0.113.1") == "rate_limited"
    edge.hub.app_is_full = True
    assert edge.connect("203.0.113.1") == "app_quota"
    edge.hub.full = "full: 1 of 1 devices"
    assert edge.connect("203.0.113.1") == "edge_full"
    edge.hub.known, edge.hub.seconds = True, 0.0
    assert edge.connect("203.0.113.1") == "joined"


def test_a_shutdown_without_devices_ends_at_once(loop: VirtualLoop) -> None:
    assert ends(loop, 0) == []
    assert loop.time() == 0


def test_a_permit_only_lowers_what_is_read_of_a_device() -> None:
    edge = Edge(frames=10)
    given = [
        edge.listener.pace(permit) for permit in (OPEN, Permit(rate=3), Permit(rate=30), Permit(bytes=5))
    ]
    assert [pace.credit(0.0) for pace in given if pace] == [
        (10, 10**12),
        (3, 10**12),
        (10, 10**12),
        (10, 5),
    ]
    assert Edge().listener.pace(OPEN) is None


SIGNED = {
    "auth": "jwt",
    "auth_issuer": ISSUER,
    "auth_jwks": "/nowhere",
    "connects_per_address": 0.2,  # twice at once
}


def with_token(token: str, query: str = "lat=1&lon=1") -> bytes:
    return f"GET /device/connect?{query} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


@pytest.fixture
def signed() -> Edge:
    edge = Edge(**SIGNED)
    assert edge.listener.gate.keyring is not None
    edge.listener.gate.keyring.keys = key_set.read(jwk_set(signer().published()), ["EdDSA"])[0]
    return edge


def refused(answer: object) -> tuple[int, dict[str, str]]:
    assert isinstance(answer, Page)
    error = json.loads(answer.body)["error"]
    assert error.pop("detail")
    return answer.status, error


async def test_who_has_a_token_comes_in_as_whom_it_names(signed: Edge) -> None:
    _, admitted = signed.open("203.0.113.1", with_token(signer().token("é", app="demo", cm={"radius": 5})))
    assert isinstance(admitted, Admitted)
    assert (admitted.who.id, admitted.who.app, admitted.who.radius) == ("é", "demo", 5.0)
    assert (admitted.permit.device, admitted.permit.app) == ("é", "demo")


async def test_others_hear_why_not(signed: Edge) -> None:
    _, missing = signed.open("203.0.113.1")
    assert refused(missing) == (401, {"code": "unauthorized", "reason": "missing"})
    assert dict(cast("Page", missing).headers) == {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    _, other = signed.open("203.0.113.1", with_token(signer().token("b"), "id=a&lat=1&lon=1"))
    assert refused(other) == (403, {"code": "forbidden", "parameter": "id"})
    _, bad = signed.open("203.0.113.1", with_token(signer().token("b"), "lat=1"))
    assert refused(bad) == (400, {"code": "bad_parameter", "parameter": "lon"})
    for edge in (signed, Edge()):
        _, in_url = edge.open("203.0.113.1", with_token("x", "id=a&lat=1&lon=1&token=x"))
        assert refused(in_url) == (400, {"code": "token_in_url"})


async def test_without_keys_nobody_is_denied_for_good_nor_is_the_edge_ready() -> None:
    health = Health()
    listener = Listener(EdgeSettings(**SIGNED), health)  # type: ignore[arg-type]
    assert health.reasons()["keys"] == "keys of tokens are not read yet"
    edge = Edge(**SIGNED)
    edge.listener = listener
    assert edge.connect("203.0.113.1", with_token(signer().token())) == "not_ready"


async def test_an_address_that_forges_signatures_uses_up_its_quota_and_is_not_verified(signed: Edge) -> None:
    genuine, forged = signer().token(), Signer().token()
    for _ in range(3):
        _, answer = signed.open("203.0.113.1", with_token(signer().token(exp=1)))
        assert refused(answer)[1]["reason"] == "expired"
    for _ in range(2):
        _, answer = signed.open("203.0.113.1", with_token(forged))
        assert refused(answer)[1]["reason"] == "signature"
    assert signed.connect("203.0.113.1", with_token(forged)) == "too_many_connections"
    assert signed.connect("203.0.113.2", with_token(genuine)) == "joined"


async def test_an_unknown_key_is_asked_for(signed: Edge) -> None:
    keyring = signed.listener.gate.keyring
    assert keyring is not None
    asked: list[bool] = []
    keyring.ask = lambda: asked.append(True)  # type: ignore[method-assign]
    for token in (signer().token(exp=1), signer("EdDSA", "new").token()):
        signed.open("203.0.113.1", with_token(token))
    assert asked == [True]


async def test_what_no_subprotocol_is_known_of_is_quoted_without_its_token() -> None:
    head = REQUEST.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: chat, bearer.eyJ.a.b\r\n\r\n")
    _, answer = Edge().open("203.0.113.1", head)
    assert isinstance(answer, Page)
    assert json.loads(answer.body)["error"]["detail"] == "none of 'chat, bearer.…' is supported"
