"""Speed costs no conformance: what Autobahn's cases find right in the websockets library is right in an edge.

Two echoes get the same cases: one of the library alone, and one made of an edge's own sockets, with the same
code from byte to payload and back, and a device behind each that sends everything back. Only limits are
raised: cases send messages of 16 MiB in up to 65,536 fragments. An edge has no compression, so cases of
compression are left out.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import kosoku
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request

from cloudmatch_bus.process.health import Health
from cloudmatch_edge.admission.permit import Admitted
from cloudmatch_edge.dialects.base import SocketFrame
from cloudmatch_edge.dialects.classic import Classic
from cloudmatch_edge.dialects.parameters import parse
from cloudmatch_edge.settings import EdgeSettings
from cloudmatch_edge.sockets import frame_stream
from cloudmatch_edge.sockets.connection import Connection
from cloudmatch_edge.sockets.listener import Listener

LARGEST = 16 * 1024 * 1024  # bytes of a message
COMPRESSION = ["12.*", "13.*"]
CASES = 290  # of 301 or so, at least: fewer would prove little


class Echo:
    """A device that has credit for everything and sends it back: a turn later, as if from the bus."""

    credit = (64, 64 * 1024)
    dialect = Classic("echo")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def on_frames(self, frames: list[SocketFrame]) -> None:
        asyncio.get_running_loop().call_soon(self._connection.write, frames)

    def on_drained(self) -> None:
        """Ignore that the socket has drained."""

    def on_controls(self, count: int) -> None:
        """Allow any number of control frames."""


class EchoingListener(Listener):
    """Accepts every device, without a bus."""

    def respond(self, request: Request, connection: Connection) -> Admitted:
        return Admitted(parse("id=a&lat=0&lon=0"))

    def frame_limits(self, *, speaks_v1: bool) -> tuple[int, int]:
        return LARGEST, LARGEST

    def join(self, admitted: Admitted, connection: Connection, *, speaks_v1: bool, waited: float) -> Any:
        return Echo(connection)

    def leave(self, device: object, code: int) -> None:
        """Forget the device."""


@contextlib.asynccontextmanager
async def an_edge() -> AsyncIterator[int]:
    """Yield the port of an echo made of an edge's sockets."""
    listener = EchoingListener(EdgeSettings(), Health())
    server = await asyncio.get_running_loop().create_server(lambda: Connection(listener), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await listener.close()


@contextlib.asynccontextmanager
async def the_library() -> AsyncIterator[int]:
    """Yield the port of an echo of the library alone."""

    async def echo(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                await connection.send(message)

    async with serve(echo, "127.0.0.1", 0, compression=None, max_size=LARGEST) as server:
        yield server.sockets[0].getsockname()[1]


async def judge(
    echo: Callable[[], AbstractAsyncContextManager[int]], only: Sequence[str] | None = None
) -> tuple[set[str], dict[str, str]]:
    """Return the cases that an echo passes, and what is wrong with it in the others."""
    async with echo() as port:
        try:
            results = await kosoku.run_fuzzingclient(
                f"ws://127.0.0.1:{port}", only, exclude_cases=COMPRESSION, concurrency=8
            )
        except kosoku.FailureError as failure:
            results = failure.results  # all of them
    failed = {r.case_id: f"{r.result} {r.result_close}" for r in results if not r.passed}
    return {r.case_id for r in results if r.passed}, failed


async def test_an_edge_passes_every_case_of_autobahn_that_the_library_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frame_stream, "FRAGMENTS_MAX", LARGEST)
    passed_by_the_library, _ = await judge(the_library)
    _, failed = await judge(an_edge)
    assert {case: why for case, why in failed.items() if case in passed_by_the_library} == {}
    assert len(passed_by_the_library) >= CASES


async def test_a_case_that_an_edge_does_not_pass_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Echo, "on_frames", lambda *_: None)
    passed, failed = await judge(an_edge, ["1.1.2"])
    assert not passed
    assert set(failed) == {"1.1.2"}
