"""The keys of an edge, from a file or from a server that does what it likes."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from cloudmatch_edge.admission.key_set import LARGEST
from cloudmatch_edge.settings import EdgeSettings
from cloudmatch_edge.sockets import https, keyring
from cloudmatch_edge.sockets.keyring import Keyring
from harness import eventually
from harness.tokens import ISSUER, Signer, jwk_set

ONE, OTHER = Signer(kid="one"), Signer(kid="other")
DOCUMENT = jwk_set(ONE.published())
AUTHORITY = trustme.CA()


def answer(body: bytes, head: str = "HTTP/1.1 200 OK\r\nContent-Type: application/json") -> bytes:
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class KeyServer:
    """A server that answers each request with the same bytes; it counts them."""

    def __init__(self) -> None:
        self.bytes = answer(DOCUMENT)
        self.hangs = False
        self.requests: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.bytes)
            await writer.drain()
            if self.hangs:
                await reader.read()
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[KeyServer]:
    made = KeyServer()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context)
    made.url = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}/keys?v=1"
    yield made
    listening.close()


@contextlib.asynccontextmanager
async def running(
    monkeypatch: pytest.MonkeyPatch, trusts: bool = True, **settings: Any
) -> AsyncIterator[Keyring]:
    """Yield a keyring that reads every few ms."""
    for name in ("FILE_INTERVAL", "URL_PAUSE"):
        monkeypatch.setattr(keyring, name, 0.01)
    made = Keyring(EdgeSettings(auth="jwt", auth_issuer=ISSUER, **settings))
    if trusts:
        AUTHORITY.configure_trust(made._context)
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()


def ids(ring: Keyring) -> list[str]:
    return sorted(ring.keys.by_id) if ring.keys else []


async def test_keys_rotate_with_their_file_and_the_last_good_ones_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    async with running(monkeypatch, auth_jwks=str(file)) as ring:
        await eventually(lambda: "No such file" in str(ring.missing()))
        file.write_bytes(DOCUMENT)
        await eventually(lambda: ids(ring) == ["one"] and ring.missing() is None)
        file.write_bytes(b"half a fi")
        await eventually(lambda: ring.problem is not None and "no JWK set" in ring.problem)
        assert ids(ring) == ["one"]
        assert ring.missing() is None
        file.write_bytes(jwk_set(ONE.private(), OTHER.published()))
        await eventually(lambda: ids(ring) == ["other"] and ring.problem is None)
        file.unlink()
        await eventually(lambda: ring.problem is not None)
        assert ids(ring) == ["other"]


async def test_a_secret_is_read_without_the_line_end_behind_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"s" * 32 + b"\n")
    async with running(monkeypatch, auth_secret_file=str(file), auth_algorithms="HS256") as ring:
        await eventually(lambda: ring.keys is not None and ring.keys.only is not None)
        assert ring.keys is not None
        assert ring.keys.only is not None
        assert ring.keys.only.key == b"s" * 32


async def test_keys_are_read_by_https(monkeypatch: pytest.MonkeyPatch, server: KeyServer) -> None:
    async with running(monkeypatch, auth_jwks=server.url) as ring:
        await eventually(lambda: ids(ring) == ["one"])
    assert server.requests[0].startswith(b"GET /keys?v=1 HTTP/1.0\r\nHost: 127.0.0.1:")


async def test_an_unknown_key_has_them_read_again_once(
    monkeypatch: pytest.MonkeyPatch, server: KeyServer
) -> None:
    async with running(monkeypatch, auth_jwks=server.url) as ring:
        await eventually(lambda: ids(ring) == ["one"])
        server.bytes = answer(jwk_set(OTHER.published()))
        for _ in range(100):
            ring.ask()
        await eventually(lambda: ids(ring) == ["other"])
        assert len(server.requests) == 2


LIES = {
    "another page": answer(b"<html>sign in</html>"),
    "no keys": answer(b'{"keys":[]}'),
    "a redirect": answer(DOCUMENT, "HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1/"),
    "an error": answer(DOCUMENT, "HTTP/1.1 500 Internal Server Error"),
    "2 MB": answer(b" " * 2_000_000 + DOCUMENT),
    "just too much": answer(b" " * LARGEST + DOCUMENT),
    "half of it": answer(DOCUMENT)[:-9],
    "no HTTP": b"SSH-2.0-x\r\n",
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n" + DOCUMENT,
    "a length that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_whatever_a_server_says_the_last_good_keys_count_and_then_the_next(
    lie: bytes, monkeypatch: pytest.MonkeyPatch, server: KeyServer
) -> None:
    async with running(monkeypatch, auth_jwks=server.url) as ring:
        await eventually(lambda: ids(ring) == ["one"])
        server.bytes = lie
        ring.ask()
        await eventually(lambda: ring.problem is not None)
        assert ids(ring) == ["one"]
        assert ring.missing() is None
        server.bytes = answer(jwk_set(OTHER.published()))
        await eventually(lambda: ids(ring) == ["other"] and ring.problem is None)


async def test_a_slow_server_is_given_up(monkeypatch: pytest.MonkeyPatch, server: KeyServer) -> None:
    monkeypatch.setattr(https, "TIMEOUT", 0.2)
    server.bytes, server.hangs = answer(DOCUMENT)[:-1], True
    async with running(monkeypatch, auth_jwks=server.url) as ring:
        await eventually(lambda: "not answered within 0.2 s" in str(ring.missing()))
        server.bytes, server.hangs = answer(DOCUMENT), False
        await eventually(lambda: ids(ring) == ["one"])


async def test_a_server_that_nobody_vouches_for_and_none_at_all_are_not_believed(
    monkeypatch: pytest.MonkeyPatch, server: KeyServer
) -> None:
    async with running(monkeypatch, trusts=False, auth_jwks=server.url) as ring:
        await eventually(lambda: "certificate verify failed" in str(ring.missing()).lower())
    async with running(monkeypatch, auth_jwks="https://127.0.0.1:1/") as ring:
        await eventually(lambda: "127.0.0.1:1/" in str(ring.missing()))
    assert server.requests == []
