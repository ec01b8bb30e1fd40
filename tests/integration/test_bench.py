"""The load generator counts the errors of a faulty edge, and none with a correct one."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bench import generator
from bench.report import Check, Run
from bench.shapes import parse

# -- a faulty edge

Fault = Callable[[int, str], list[str]]  # number and text of a payload → the texts that are delivered


class Swap:
    """Deliver the fifth payload after the sixth."""

    def __init__(self) -> None:
        self.held: list[str] = []

    def __call__(self, n: int, text: str) -> list[str]:
        if n == 5:
            self.held.append(text)
            return []
        held, self.held = self.held, []
        return [text, *held]


@contextlib.asynccontextmanager
async def edges(fault: Fault) -> AsyncIterator[tuple[int, int]]:
    """Yield the ports of a server that stands in for two edges and the relay: one pair, one way."""
    sockets: dict[str, asyncio.Future[ServerConnection]] = {
        name: asyncio.get_running_loop().create_future() for name in ("a0", "b0")
    }

    async def device(socket: ServerConnection) -> None:
        assert socket.request is not None
        own = parse_qs(urlsplit(socket.request.path).query)["id"][0]
        other = "b0" if own == "a0" else "a0"
        await socket.send("Connected and handled by nobody")
        sockets[own].set_result(socket)
        peer = await sockets[other]
        await socket.send(f"I matched with device '{other}'!")
        n = 0
        with contextlib.suppress(ConnectionClosed):
            async for text in socket:
                assert isinstance(text, str)
                for delivered in fault(n, f"device {own} says: {text}"):
                    await peer.send(delivered)
                n += 1

    async with (
        serve(device, "127.0.0.1", 0, compression=None) as a,
        serve(device, "127.0.0.1", 0, compression=None) as b,
    ):
        yield a.sockets[0].getsockname()[1], b.sockets[0].getsockname()[1]


async def load(load_generator: Path, fault: Fault) -> Run:
    async with edges(fault) as ports:
        return await asyncio.to_thread(
            generator.run,
            load_generator,
            ports,
            {"edge": os.getpid()},
            parse("1x4:64").options,
            app="test",
            warmup=0,
            seconds=0.5,
        )


def counted(run: Run) -> dict[str, int]:
    assert isinstance(run.check, Check)
    return {
        name: count
        for name in ("lost", "repeated", "reordered", "damaged")
        if (count := getattr(run.check, name))
    }


def at_five(change: Callable[[str], list[str]]) -> Fault:
    """Return a fault that affects only the fifth payload."""
    return lambda n, text: change(text) if n == 5 else [text]


async def test_no_error_is_counted_with_a_correct_edge(load_generator: Path) -> None:
    run = await load(load_generator, lambda _, text: [text])
    assert run.valid
    assert counted(run) == {}
    assert run.payloads > 5


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        pytest.param(at_five(lambda text: []), {"lost": 1}, id="lost"),
        pytest.param(at_five(lambda text: [text, text]), {"repeated": 1}, id="twice"),
        pytest.param(Swap(), {"reordered": 1}, id="out of order"),
        pytest.param(at_five(lambda text: [text[:-1] + "~"]), {"damaged": 1}, id="a byte changed"),
        pytest.param(at_five(lambda text: [text[:-1]]), {"damaged": 1}, id="cut short"),
        pytest.param(at_five(lambda text: [text + "x"]), {"damaged": 1}, id="too long"),
        pytest.param(at_five(lambda text: [text.replace("a0", "a1")]), {"damaged": 1}, id="another sender's"),
        pytest.param(lambda n, text: [text] if n < 5 else [], {"lost": 4}, id="nothing after the fifth"),
    ],
)
async def test_each_error_of_an_edge_is_counted_and_makes_the_run_invalid(
    load_generator: Path, fault: Fault, found: dict[str, int]
) -> None:
    run = await load(load_generator, fault)
    assert counted(run) == found
    assert not run.valid


async def test_an_unexpected_greeting_is_quoted_in_the_error(load_generator: Path) -> None:
    async def device(socket: ServerConnection) -> None:
        await socket.send("hello")
        await socket.wait_closed()

    async with serve(device, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(
            generator.GeneratorError, match="received 'hello', expected 'Connected and handled by"
        ):
            await asyncio.to_thread(
                generator.run, load_generator, (port, port), {}, [], app="test", warmup=0, seconds=0.3
            )
