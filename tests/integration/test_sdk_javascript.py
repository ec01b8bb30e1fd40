"""The JavaScript SDK: shared conversations, real edges that are killed and drained, and a real browser."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from faults.link import Link
from harness import NatsServer, Process, Service, programs
from harness.programs import need

SDK = Path(__file__).resolve().parents[2] / "edge/clients/javascript"
Start = Callable[..., Service]
COUNT, RATE = 1500, 500  # payloads each way, and per second


@pytest.fixture(scope="session")
def node() -> list[str]:
    """Return the command that runs Node with a WebSocket."""
    return programs.node()


def run_tests(node: list[str], *files: str, **environment: str) -> None:
    """Run test files with Node's runner; show its output if one fails or none ran."""
    done = subprocess.run(
        [*node, "--test", *(SDK / "test" / file for file in files)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=110,
    )
    count = {name: int(n) for name, n in re.findall(r"^. (pass|skipped) (\d+)$", done.stdout, re.MULTILINE)}
    assert (done.returncode, count.get("skipped")) == (0, 0), done.stdout + done.stderr
    assert count["pass"] > 1, done.stdout


def test_the_sdk_passes_the_shared_conversations(node: list[str]) -> None:
    run_tests(node, "conversations.test.js")


def test_its_conversation_survives_timeouts_and_a_lossy_server(node: list[str]) -> None:
    run_tests(node, "conversation.test.js", "resume.test.js")


def test_its_types_declare_everything_it_has(node: list[str]) -> None:
    run_tests(node, "types.test.js")


def test_an_application_in_typescript_compiles_against_its_types() -> None:
    deno = Path(sys.executable).with_name("deno")
    done = subprocess.run(
        [deno, "check", "test/types.ts"], cwd=SDK, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def edges(nats_server: NatsServer, start: Start) -> list[Service]:
    """Two edges and a worker."""
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    start("match-engine", bus)
    return [start("edge", {**bus, "CLOUDMATCH_EDGE_NAME": f"edge-{i}"}) for i in range(2)]


def test_devices_in_node_do_what_the_readme_says(node: list[str], edges: list[Service]) -> None:
    run_tests(node, "edge.test.js", EDGES=",".join(edge.url for edge in edges))


def test_devices_in_node_avoid_a_full_edge(node: list[str], nats_server: NatsServer, start: Start) -> None:
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    start("match-engine", bus)
    full = start("edge", {**bus, "CLOUDMATCH_EDGE_MAX_CONNECTIONS": "2"})
    other = start("edge", {**bus, "CLOUDMATCH_EDGE_NAME": "edge-1"})
    run_tests(node, "full.test.js", EDGES=f"{full.url},{other.url}")


class Exchange:
    """A running exchange of payloads between two devices, in Node or in a page.

    Each device reaches its edge through a link, which can switch to another edge like a load balancer.
    """

    def __init__(self, edges: list[Service], links: list[Link]) -> None:
        self.edges, self.links = edges, links
        # the latest counts of each device; the final ones are in `done`
        self.progress: list[dict[str, int]] = [{}, {}]
        # why a device with a bad parameter was refused; reported only by the page
        self.refused: dict[str, object] = {}
        self.done: asyncio.Future[list[dict[str, int]]] = asyncio.get_running_loop().create_future()
        self._reported = asyncio.Condition()

    @property
    def options(self) -> dict[str, Any]:
        """The options for the devices."""
        return {
            "urls": [f"http://127.0.0.1:{link.port}" for link in self.links],
            "count": COUNT,
            "rate": RATE,
        }

    async def report(self, line: dict[str, Any]) -> None:
        """Process a line of progress."""
        async with self._reported:
            self.progress = line.get("done") or line.get("progress") or self.progress
            self.refused = line.get("refused", self.refused)
            if "done" in line:
                self.done.set_result(line["done"])
            elif "failed" in line:
                self.done.set_exception(AssertionError(line["failed"]))
            self._reported.notify_all()

    async def reach(self, device: int, what: str, number: int) -> None:
        """Wait until a count of a device has reached this number."""
        async with asyncio.timeout(60), self._reported:
            await self._reported.wait_for(lambda: self.progress[device].get(what, 0) >= number)

    def drop(self, *devices: int) -> None:
        """Drop the connections of these devices."""
        for device in devices:
            for end in list(self.links[device].ends):
                end.transport.abort()

    def redirect(self, device: int, edge: int) -> None:
        """Direct the next connections of a device to another edge."""
        self.links[device].target = int(self.edges[edge].url.rpartition(":")[2])

    async def succeeds(self, *resumed: int) -> None:
        """Wait for the end: all payloads arrived once and in order, with at least these many resumes."""
        done = await asyncio.wait_for(self.done, 90)
        for device, least in zip(done, resumed, strict=True):
            assert device["resumed"] >= least
            wrong = {key: device[key] for key in ("wrong", "peerLeft", "gap", "error")}
            assert wrong == dict.fromkeys(wrong, 0)
            assert (device["received"], device["receipts"]) == (COUNT, COUNT // 25)


@contextlib.asynccontextmanager
async def linked(edges: list[Service]) -> AsyncIterator[Exchange]:
    """Open a link to the edges for each device."""
    async with contextlib.AsyncExitStack() as stack:
        ports = [int(edge.url.rpartition(":")[2]) for edge in edges]
        links = [await stack.enter_async_context(Link(port)) for port in ports]
        yield Exchange(edges, links)


@contextlib.asynccontextmanager
async def in_node(node: list[str], edges: list[Service]) -> AsyncIterator[Exchange]:
    """Run two devices in one Node process."""
    async with linked(edges) as exchange:
        process = await asyncio.create_subprocess_exec(
            *node,
            SDK / "test/exchange.node.js",
            json.dumps(exchange.options),
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        assert process.stdout is not None

        async def listen() -> None:
            async for line in process.stdout:
                await exchange.report(json.loads(line))

        listening = asyncio.create_task(listen())
        try:
            yield exchange
            assert await asyncio.wait_for(process.wait(), 20) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            listening.cancel()


async def drop_and_drop_again(exchange: Exchange) -> None:
    """Drop one connection, the same one again as soon as it resumes, then both at once."""
    await exchange.reach(0, "received", 1)
    exchange.drop(0)
    await exchange.reach(0, "resumed", 1)
    exchange.drop(0)
    await exchange.reach(0, "resumed", 2)
    exchange.drop(0, 1)
    await exchange.succeeds(3, 1)


async def test_payloads_survive_dropped_connections(node: list[str], edges: list[Service]) -> None:
    async with in_node(node, edges) as exchange:
        await drop_and_drop_again(exchange)


async def test_payloads_survive_an_edge_that_is_killed(node: list[str], edges: list[Service]) -> None:
    async with in_node(node, edges) as exchange:
        await exchange.reach(1, "received", COUNT // 5)
        exchange.redirect(0, 1)
        edges[0].kill()
        await exchange.succeeds(1, 0)


async def test_payloads_survive_an_edge_that_is_drained(node: list[str], edges: list[Service]) -> None:
    async with in_node(node, edges) as exchange:
        await exchange.reach(1, "received", COUNT // 5)
        exchange.redirect(0, 1)
        await asyncio.to_thread(edges[0].terminate)
        await exchange.succeeds(1, 0)


@contextlib.asynccontextmanager
async def in_chromium(edges: list[Service], folder: Path) -> AsyncIterator[Exchange]:
    """Run two devices in one page in Chromium, which reports its progress by POST."""
    chromium = need("chromium", "chromium")
    loop = asyncio.get_running_loop()
    async with linked(edges) as exchange:

        class Handler(BaseHTTPRequestHandler):
            """Serves the SDK's folder and the options, and receives the progress."""

            def do_GET(self) -> None:  # the name http.server requires
                file = SDK / self.path.lstrip("/")
                body = json.dumps(exchange.options).encode() if self.path == "/options" else file.read_bytes()
                self.answer(body, "text/javascript" if file.suffix == ".js" else "text/html")

            def do_POST(self) -> None:  # the same
                line = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asyncio.run_coroutine_threadsafe(exchange.report(line), loop).result(10)
                self.answer(b"", "text/plain")

            def answer(self, body: bytes, media_type: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", media_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, daemon=True).start()
        browser = Process(
            "chromium",
            [
                *(chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
                *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
                *(f"--user-data-dir={folder}", f"http://127.0.0.1:{server.server_port}/test/page.html"),
            ],
            {},
            folder,
        )
        try:
            yield exchange
        except BaseException as error:
            error.add_note(browser.tail())
            raise
        finally:
            await asyncio.to_thread(browser.terminate, 5)
            await asyncio.to_thread(server.shutdown)
            server.server_close()


async def test_payloads_survive_dropped_connections_in_a_browser(
    edges: list[Service], tmp_path: Path
) -> None:
    async with in_chromium(edges, tmp_path) as exchange:
        await drop_and_drop_again(exchange)
        assert exchange.refused == {"name": "RefusedError", "status": 400, "parameter": "lat"}
