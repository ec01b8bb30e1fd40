"""The HTTP side: windows by REST, live by Server-Sent Events, and a page with a chart."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.resources import files
from typing import Annotated

import msgspec
from litestar import Litestar, MediaType, get
from litestar.exceptions import ClientException
from litestar.params import Parameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from cloudmatch_analytics.ledger import Ledger
from cloudmatch_analytics.sizes import DEFAULT_APP, key
from cloudmatch_analytics.windows import ALL, KEPT
from cloudmatch_bus.health import Health
from cloudmatch_bus.http import application, serve
from cloudmatch_bus.subjects import token

NAME = "analytics"
LOOK = 0.25  # s between two looks for windows that closed
RUNNING = 4  # the running window is told at every fourth look

Size = Annotated[str, Parameter(description="Length of the windows: 10s or 60s.")]
App = Annotated[str, Parameter(description="Only this app. Empty: all apps, or `default` with a device.")]
Device = Annotated[str, Parameter(description="Only payloads that this device sent.")]
Last = Annotated[int, Parameter(ge=1, le=KEPT, description="How many windows, at most.")]


class ByteWindow(msgspec.Struct, frozen=True):
    """A window of time, in ms since 1970, and what was exchanged in it."""

    start: int
    end: int
    bytes: int
    messages: int


def series(app: str, device: str) -> str:
    """Name the series that a request asks for."""
    if device:
        return key(app or DEFAULT_APP, device)
    return token(app) if app else ALL


def gateway(health: Health, ledger: Ledger, stop: asyncio.Event) -> Litestar:
    """Make the HTTP application. Streams end when `stop` is set."""
    page = files(__package__).joinpath("page.html").read_text(encoding="utf-8")

    def length(size: str) -> int:
        if size not in ledger.sizes:
            raise ClientException(f"size is one of {', '.join(ledger.sizes)}")
        return ledger.sizes[size]

    @get("/windows", sync_to_thread=False)
    def windows(size: Size = "10s", app: App = "", device: Device = "", last: Last = 30) -> list[ByteWindow]:
        """Give closed windows, newest last. One in which nothing was exchanged is there with zeros."""
        return [ByteWindow(*w) for w in ledger.last(length(size), last, series(app, device))]

    async def closings(size: int, name: str) -> AsyncIterator[ServerSentEventMessage]:
        told = ledger.closed_until(size)
        look = 0
        while not stop.is_set():
            closed = ledger.last(size, (ledger.closed_until(size) - told) // size, name)
            for window in closed:
                told = window.end
                yield _event("closed", ByteWindow(*window))
            if look % RUNNING == 0:
                running = ledger.running(size, time.time_ns() // 1_000_000, name)
                yield _event("running", ByteWindow(*running))
            look += 1
            await asyncio.sleep(LOOK)

    @get("/windows/live", sync_to_thread=False)
    def live(size: Size = "10s", app: App = "", device: Device = "") -> ServerSentEvent:
        """Tell each window as it closes (event `closed`), and every second the `running` one."""
        return ServerSentEvent(closings(length(size), series(app, device)))

    @get("/", media_type=MediaType.HTML, sync_to_thread=False, include_in_schema=False)
    def chart() -> str:
        return page

    return application("CloudMatch analytics", health, [windows, live, chart])


def _event(name: str, window: ByteWindow) -> ServerSentEventMessage:
    return ServerSentEventMessage(event=name, data=msgspec.json.encode(window).decode())


class Http:
    """The HTTP side in a thread with an event loop of its own."""

    def __init__(self, host: str, port: int, ledger: Ledger, health: Health) -> None:
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        app = gateway(health, ledger, self._stop)
        serving = serve(app, NAME, host, port, self._stop)
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
