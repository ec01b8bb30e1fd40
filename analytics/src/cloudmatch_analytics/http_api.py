"""The HTTP side: windows by REST, live by Server-Sent Events, and a page with a chart."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated

import msgspec
from litestar import Litestar, get
from litestar.exceptions import ClientException
from litestar.params import Parameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from cloudmatch_analytics import page
from cloudmatch_analytics.core.sizes import DEFAULT_APP, key
from cloudmatch_analytics.core.windows import ALL, BASE, KEPT, SIZES, Shape
from cloudmatch_analytics.window_store import Ledger
from cloudmatch_bus.contract.subjects import token, untoken
from cloudmatch_bus.process.clock import now_ms
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.http import application, serve

NAME = "analytics"
LOOK = 0.25  # s between two looks for windows that closed
RUNNING = 4  # the running window is told at every fourth look

Size = Annotated[str, Parameter(description="Length of the windows: 10s or 60s.")]
App = Annotated[str, Parameter(description="Only this app. Empty: all apps, or `default` with a device.")]
Device = Annotated[str, Parameter(description="Only payloads that this device sent.")]
Last = Annotated[int, Parameter(ge=1, le=KEPT // BASE, description="How many windows, at most.")]
Minutes = Annotated[int, Parameter(ge=1, le=24 * 60, description="How far back.")]
Limit = Annotated[int, Parameter(ge=1, le=10_000, description="How many, at most.")]


Hop = Annotated[
    str, Parameter(description="How often a window begins: 10s, or (the default) as often as one ends.")
]


class ByteWindow(msgspec.Struct, frozen=True):
    """A window of time, in ms since 1970, and what was exchanged in it."""

    start: int
    end: int
    bytes: int
    messages: int
    late: int  # of the messages, those that came when it had closed


class Sender(msgspec.Struct, frozen=True):
    """A device, and what it sent. The empty name is for payloads of which the sender is not known."""

    app: str
    device: str
    bytes: int
    messages: int


class State(msgspec.Struct, frozen=True):
    """How far the windows have come, in ms since 1970."""

    now: int
    closed_until: int
    behind: int  # ms by which windows close later than they should
    reasons: dict[str, str]  # why, by part; empty when all is well


def series(app: str, device: str) -> str:
    """Name the series that a request asks for."""
    if device:
        return key(app or DEFAULT_APP, device)
    return token(app) if app else ALL


def shape(size: str, hop: str) -> Shape:
    """Read the shape of windows that a request asks for.

    Raises:
        ClientException: there are no such windows.
    """
    if size not in SIZES:
        raise ClientException(f"size is one of {', '.join(SIZES)}")
    if (hop or size) not in SIZES or SIZES[hop or size] > SIZES[size]:
        raise ClientException("hop is 10s or the size")
    return Shape(SIZES[size], SIZES[hop or size])


def gateway(health: Health, ledger: Ledger, stop: asyncio.Event, origins: Sequence[str] = ()) -> Litestar:
    """Make the HTTP application. Streams end when `stop` is set; pages of `origins` may read it."""

    @get("/windows", sync_to_thread=False)
    def windows(
        size: Size = "10s", hop: Hop = "", app: App = "", device: Device = "", last: Last = 30
    ) -> list[ByteWindow]:
        """Give closed windows, newest last. One in which nothing was exchanged is there with zeros."""
        return [ByteWindow(*w) for w in ledger.last(shape(size, hop), last, series(app, device))]

    @get("/windows/live", sync_to_thread=False)
    def live(size: Size = "10s", hop: Hop = "", app: App = "", device: Device = "") -> ServerSentEvent:
        """Tell each window as it closes (event `closed`) and again when late payloads change it
        (`corrected`); every second the `running` one and how far all have come (`state`)."""
        return ServerSentEvent(_follow(health, ledger, shape(size, hop), series(app, device), stop))

    @get("/senders", sync_to_thread=False)
    def senders(app: App = "", minutes: Minutes = 60, limit: Limit = 500) -> list[Sender]:
        """Give who sent payloads lately, most bytes first."""
        since = now_ms() - minutes * 60_000
        found = [
            Sender(untoken(app_token), untoken(device_token), sums.bytes, sums.messages)
            for (app_token, _, device_token), sums in (
                (of.partition("."), s) for of, s in ledger.senders(since).items()
            )
        ]
        found.sort(key=lambda sender: (-sender.bytes, sender.app, sender.device))
        return [sender for sender in found if app in ("", sender.app)][:limit]

    handlers = [windows, live, senders, *page.handlers()]
    return application("CloudMatch analytics", health, handlers, origins)


async def _follow(
    health: Health, ledger: Ledger, windows: Shape, name: str, stop: asyncio.Event
) -> AsyncIterator[ServerSentEventMessage]:
    told, corrections = ledger.closed_until, ledger.corrections
    told -= told % windows.hop
    look = 0
    while not stop.is_set():
        before, corrections = corrections, ledger.corrections
        for window in ledger.corrected(windows, before, name) if corrections > before else ():
            if window.end <= told:
                yield _event("corrected", ByteWindow(*window))
        for window in ledger.last(windows, (ledger.closed_until - told) // windows.hop, name):
            told = window.end
            yield _event("closed", ByteWindow(*window))
        if look % RUNNING == 0:
            now = now_ms()
            yield _event("running", ByteWindow(*ledger.running(windows, now, name)))
            yield _event("state", State(now, ledger.closed_until, ledger.behind(now), health.reasons()))
        look += 1
        await asyncio.sleep(LOOK)


def _event(name: str, data: msgspec.Struct) -> ServerSentEventMessage:
    return ServerSentEventMessage(event=name, data=msgspec.json.encode(data).decode())


class Http:
    """The HTTP side in a thread with an event loop of its own."""

    def __init__(self, sock: socket.socket, ledger: Ledger, health: Health, origins: Sequence[str]) -> None:
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        app = gateway(health, ledger, self._stop, origins)
        serving = serve(app, NAME, sock, self._stop)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="http")
        self._future: Future[None] = self._thread.submit(self._loop.run_until_complete, serving)

    @property
    def failed(self) -> bool:
        """Whether it has ended by itself."""
        return self._future.done()

    def when_failed(self, do: Callable[[], object]) -> None:
        """Do something when it ends, or at once when it has."""
        self._future.add_done_callback(lambda _: do())

    def stop(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.shutdown()

    def result(self) -> None:
        """Raise what ended it, if that was an error."""
        self._loop.close()
        self._future.result()
