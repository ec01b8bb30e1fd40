"""Devices that connect to their edge by TLS; their peers need not."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trustme
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake

from harness import NatsServer, Service, environment, eventually, free_port
from harness.classic import device, receive_text
from harness.processes import BIN

Start = Callable[..., Service]
CHUNK = "x" * 60_000
WINDOW = 32 * 1024 * 1024  # bytes: more than windows and sockets' buffers between two devices hold


class Authority:
    """A certificate authority, and the files of the edge's certificate."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self._chain, self._key = folder / "tls.crt", folder / "tls.key"
        self.settings = {
            "CLOUDMATCH_EDGE_TLS_CERT_FILE": str(self._chain),
            "CLOUDMATCH_EDGE_TLS_KEY_FILE": str(self._key),
        }
        self.trust = ssl.create_default_context()
        self._authority.configure_trust(self.trust)
        self.issue()

    def issue(self) -> None:
        """Issue a certificate in place of the previous one; each file is replaced atomically."""
        made = self._authority.issue_cert("127.0.0.1")
        for file, pem in (
            (self._key, made.private_key_pem.bytes()),
            (self._chain, b"".join(each.bytes() for each in made.cert_chain_pems)),
        ):
            (new := file.with_suffix(".new")).write_bytes(pem)
            new.replace(file)

    def spoil(self) -> None:
        """Make the key invalid."""
        self._key.write_text("nothing")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def edges(nats_server: NatsServer, start: Start, authority: Authority) -> list[Service]:
    """Two edges; the first one uses TLS."""
    # devices that come back again and again ask for the certificate
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url, "CLOUDMATCH_EDGE_CONNECTS_PER_DEVICE": "0"}
    start("match-engine", bus)
    legacy = {"CLOUDMATCH_EDGE_LEGACY_PORT": str(free_port())}
    first = start("edge", {**bus, **authority.settings, **legacy, "CLOUDMATCH_EDGE_NAME": "edge-0"})
    return [first, start("edge", {**bus, "CLOUDMATCH_EDGE_NAME": "edge-1"})]


@contextlib.asynccontextmanager
async def pair(
    edges: list[Service], trust: ssl.SSLContext
) -> AsyncIterator[tuple[ClientConnection, ClientConnection]]:
    assert [edge.url.partition(":")[0] for edge in edges] == ["https", "http"]
    # A device that does not read gets no answer to its close frame, either.
    async with (
        device(edges[0], "a", 1, 1, trust, close_timeout=1) as a,
        device(edges[1], "c", 1, 1, close_timeout=1) as c,
    ):
        assert await receive_text(a) == "I matched with device 'c'!"
        assert await receive_text(c) == "I matched with device 'a'!"
        yield a, c


async def test_payloads_arrive_in_order_both_ways_whatever_their_size(
    edges: list[Service], authority: Authority
) -> None:
    texts = ["ciao", "", "漢字 😀", "x" * 262_144, *(f"n{i}" for i in range(2000)), "é" * 131_072]
    async with pair(edges, authority.trust) as (a, c):

        async def send(socket: ClientConnection) -> None:
            for text in texts:
                await socket.send(text)

        async def receive(socket: ClientConnection, peer: str) -> None:
            for text in texts:
                assert await receive_text(socket) == f"device {peer} says: {text}"

        await asyncio.gather(send(a), send(c), receive(a, "c"), receive(c, "a"))


async def test_the_second_port_has_the_same_certificate(edges: list[Service], authority: Authority) -> None:
    port = edges[0].env["CLOUDMATCH_EDGE_LEGACY_PORT"]
    url = f"wss://127.0.0.1:{port}/device/connect?id=a&lat=1&lon=1"
    async with connect(url, ssl=authority.trust) as a, device(edges[1], "c", 1, 1):
        assert await receive_text(a) == "Connected and handled by edge-0"
        assert await receive_text(a) == "I matched with device 'c'!"


@pytest.mark.parametrize("slow", ["a", "c"])
async def test_a_device_that_does_not_read_pauses_its_peer_and_nothing_is_lost(
    edges: list[Service], authority: Authority, slow: str
) -> None:
    async with pair(edges, authority.trust) as (a, c):
        reader, writer, name = (a, c, "c") if slow == "a" else (c, a, "a")
        sent = 0

        async def send() -> None:
            nonlocal sent
            while sent * len(CHUNK) < 2 * WINDOW:
                await writer.send(f"{sent} {CHUNK}")
                sent += 1

        sending = asyncio.create_task(send())
        seen = -1

        async def stuck() -> bool:
            nonlocal seen
            before, seen = seen, sent
            await asyncio.sleep(0.5)
            return sent == before == seen

        await eventually(stuck, 20, "the sender to stop")
        assert 0 < sent * len(CHUNK) < WINDOW
        for number in range(sent + 200):  # the sender continues
            assert await receive_text(reader) == f"device {name} says: {number} {CHUNK}"
        sending.cancel()


async def test_a_certificate_changes_while_devices_stay(edges: list[Service], authority: Authority) -> None:
    async with pair(edges, authority.trust) as (a, c):
        before = presented(a)
        authority.issue()

        async def renewed() -> bool:
            async with device(edges[0], "b", 1, 1, authority.trust) as b:
                return presented(b) != before

        await eventually(renewed, 15, "the new certificate")
        await a.send("still here")
        assert await receive_text(c) == "device a says: still here"
        # A chain without its key is not loaded.
        authority.spoil()
        await eventually(lambda: "certificate not reloaded" in edges[0].process.log, 15, "the warning")
        async with device(edges[0], "b", 1, 1, authority.trust):
            pass


def presented(socket: ClientConnection) -> bytes | None:
    """Return the certificate that the edge presented."""
    channel = socket.transport.get_extra_info("ssl_object")
    assert isinstance(channel, ssl.SSLObject)
    return channel.getpeercert(binary_form=True)


async def test_devices_without_tls_or_without_the_authority_cannot_connect(
    edges: list[Service], authority: Authority
) -> None:
    plain = edges[0].url.replace("https", "ws") + "/device/connect?id=a&lat=1&lon=1"
    with pytest.raises(InvalidHandshake):
        await connect(plain)
    with pytest.raises(ssl.SSLCertVerificationError):
        async with device(edges[0], "a", 1, 1, ssl.create_default_context()):
            pass
    async with device(edges[0], "a", 1, 1, authority.trust):
        pass


@pytest.mark.parametrize(
    ("chain", "key", "message"),
    [
        ("tls.crt", "", "must both be set, or neither"),
        ("", "tls.key", "must both be set, or neither"),
        ("tls.crt", "tls.crt", "cannot be used"),
        ("nowhere", "tls.key", "cannot be used"),
    ],
)
async def test_invalid_files_are_rejected_by_name(
    authority: Authority, tmp_path: Path, chain: str, key: str, message: str
) -> None:
    settings = {
        "CLOUDMATCH_EDGE_TLS_CERT_FILE": chain and str(tmp_path / chain),
        "CLOUDMATCH_EDGE_TLS_KEY_FILE": key and str(tmp_path / key),
    }
    edge = await asyncio.create_subprocess_exec(
        BIN / "edge", env=environment(settings), stderr=asyncio.subprocess.PIPE, cwd=tmp_path
    )
    _, output = await asyncio.wait_for(edge.communicate(), 20)
    assert edge.returncode == 2
    assert output.startswith(b"CLOUDMATCH_EDGE_TLS_CERT_FILE")
    assert message in output.decode()


async def test_a_device_that_answers_no_pings_is_cut_off(
    nats_server: NatsServer, start: Start, authority: Authority
) -> None:
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url, "CLOUDMATCH_EDGE_HEARTBEAT": "0.2"}
    edge = start("edge", {**bus, **authority.settings})
    async with device(edge, "a", 1, 1, authority.trust, close_timeout=0.1) as a:
        a.transport.pause_reading()
        cut = 'cloudmatch_edge_connections_total{code="4008"} 1.0'
        await eventually(lambda: cut in edge.get("/metrics")[1], what="the device is cut off")
