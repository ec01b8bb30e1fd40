"""``cloudmatch-trace`` beside devices that exchange payloads through real services."""

import asyncio
import contextlib
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from harness import NatsServer, Process, Service, free_port
from harness.processes import BIN, environment

Start = Callable[..., Service]
Trace = Callable[..., Process]


@pytest.fixture
def trace(tmp_path: Path, nats_server: NatsServer) -> Iterator[Trace]:
    """Start tracers that listen when it returns: ``trace("--app", "demo")``."""
    with contextlib.ExitStack() as stack:

        def begin(*arguments: str) -> Process:
            folder = tmp_path / re.sub(r"\W+", "_", f"t{arguments}")
            folder.mkdir()
            bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
            tracer = Process("trace", [BIN / "cloudmatch-trace", *arguments], bus, folder)
            stack.callback(lambda: tracer.returncode is None and tracer.kill())
            tracer.wait_line(f"listening at {nats_server.url}")
            return tracer

        yield begin


@pytest.fixture
def edge(nats_server: NatsServer, start: Start) -> Service:
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    start("match-engine", bus)
    return start("edge", bus)


async def exchange(edge: Service) -> None:
    """Let a and c of the app demo match, and each send a payload."""
    url = edge.url.replace("http", "ws") + "/device/connect?app=demo&lat=1"
    async with connect(f"{url}&id=a&lon=1") as a, connect(f"{url}&id=c&lon=2") as c:
        for socket in (a, c):
            for expected in ("Connected", "I matched"):
                assert str(await asyncio.wait_for(socket.recv(), 10)).startswith(expected)
        for sender, receiver, text in ((a, c, "ciao"), (c, a, "buongiorno")):
            await sender.send(text)
            assert str(await asyncio.wait_for(receiver.recv(), 10)).endswith(text)


async def test_a_tracer_shows_a_device_from_its_request_to_its_end(edge: Service, trace: Trace) -> None:
    tracer = trace("--app", "demo", "--device", "a")
    other = trace("--app", "other")
    facts = trace("--facts", "a")
    await exchange(edge)
    for line in (
        r'match +demo/a +{"type":"seek"',
        r'ctl +demo/a +{"type":"paired"',
        r"up +demo/a +match \d+ +#0 +t4 +'ciao'",
        r"dn +demo/a ← c +match \d+ +#0 +t10 +'buongiorno'",
        r"ack +demo/a +match \d+ +#1 +the peer's edge has received all before #1",
        r"ev +demo/a → c +match \d+ +#0 +1 delivered, 4 bytes by edge-0",
        r"ev +demo/c → a +match \d+ +#0 +1 delivered, 10 bytes by edge-0",
        r'ev +demo/a +{"type":"left"',
    ):
        await asyncio.to_thread(tracer.wait_line, rf"(?m)^\d\d:\d\d:\d\d\.\d{{3}}  {line}")
    assert not re.search(r"demo/c +\w", tracer.log)
    await asyncio.to_thread(facts.wait_line, r"ev +demo/c → a +match \d+ +#0 +1 delivered, 10 bytes")
    assert "'ciao'" not in facts.log
    for each in (tracer, other, facts):
        each.signal(signal.SIGINT)
        assert each.wait() == 0, each.tail()
        assert "Traceback" not in each.log
    assert len(other.log.splitlines()) == 1


async def test_raw_output_shows_messages_as_they_are_on_the_bus(edge: Service, trace: Trace) -> None:
    tracer = trace("--raw")
    await exchange(edge)
    await asyncio.to_thread(
        tracer.wait_line, r"demo\.up\.edge-0\.\d+\.a  cm\.v1\.demo\.ack\.edge-0\.a\.\d+\.0\.t4  ciao\n"
    )


async def test_a_tracer_reconnects_after_a_loss_of_its_server_and_warns_of_the_gap(
    trace: Trace, nats_server: NatsServer
) -> None:
    tracer = trace()
    await asyncio.to_thread(nats_server.kill)
    await asyncio.to_thread(nats_server.restart)
    await asyncio.to_thread(tracer.wait_line, "reconnected: messages sent in the meantime are missing here")


async def test_a_tracer_ends_when_its_output_is_no_longer_read(
    edge: Service, nats_server: NatsServer
) -> None:
    tracer = await asyncio.create_subprocess_exec(
        BIN / "cloudmatch-trace",
        env=environment({"CLOUDMATCH_NATS_URL": nats_server.url}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert tracer.stdout is not None
    assert tracer.stderr is not None
    try:
        assert b"listening at" in await asyncio.wait_for(tracer.stderr.readline(), 20)
        tracer.stdout._transport.close()  # type: ignore[attr-defined]  # a StreamReader has no close
        await exchange(edge)
        assert await asyncio.wait_for(tracer.wait(), 10) == 0
        assert await tracer.stderr.read() == b""
    finally:
        if tracer.returncode is None:
            tracer.kill()
            await tracer.wait()


def test_without_a_server_a_tracer_names_the_address_it_tried_in_one_sentence(tmp_path: Path) -> None:
    port = free_port()
    tracer = Process("trace", [BIN / "cloudmatch-trace"], {"CLOUDMATCH_NATS_PORT": str(port)}, tmp_path)
    assert tracer.wait(20) == 1
    assert tracer.log == (
        f"NATS does not answer at nats://127.0.0.1:{port}: "
        "start it, or set CLOUDMATCH_NATS_URL or CLOUDMATCH_NATS_PORT.\n"
    )
