"""The HTTP API: windows by REST, live by Server-Sent Events, and a page with a chart."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Annotated
from weakref import WeakSet

import msgspec
from litestar import Litestar, Response, get
from litestar.exceptions import ClientException, NotFoundException
from litestar.params import FromPath, Parameter
from litestar.response import ServerSentEvent, ServerSentEventMessage
from litestar.types import ControllerRouterHandler

from cloudmatch_analytics.core.windows import ALL, BASE, RETAINED, SIZES, Shape, app_series, sender_series
from cloudmatch_analytics.settings import LISTENERS
from cloudmatch_analytics.window_store import WindowStore
from cloudmatch_bus.contract.amqp import DEFAULT_APP
from cloudmatch_bus.contract.subjects import untoken
from cloudmatch_bus.contract.unreadable import UNREADABLE
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.http import KEYED, Asking, application, errors, serve
from cloudmatch_bus.process.http_keys import Keys, guard, only_app, require_app
from cloudmatch_bus.process.searches import Searches, busy
from cloudmatch_bus.process.settings import HttpSettings

NAME = "analytics"
POLL_INTERVAL = 0.25  # s between two checks for closed windows
WAITING = 100  # queries that wait for a thread
RUNNING = 4  # the running window is sent at every fourth check

# uPlot is a copy of the npm package of that name, with its licence beside it
FILES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "vendor/uPlot.min.css": "text/css; charset=utf-8",
    "vendor/uPlot.iife.min.js": "text/javascript; charset=utf-8",
}

READ = guard("windows:read")
FAILURES = KEYED | errors(
    bad_request="A parameter is invalid.", unavailable="Too many ask at once; ask again."
)
Size = Annotated[str, Parameter(description="Length of the windows.", schema_extra={"enum": list(SIZES)})]
Hop = Annotated[
    str,
    Parameter(
        description="How often a window begins: 10s, or (the default) as often as one ends.",
        schema_extra={"enum": ["", *SIZES]},
    ),
]
App = Annotated[str, Parameter(description="Only this app. Empty: all apps, or `default` with a device.")]
Device = Annotated[str, Parameter(description="Only payloads sent by this device.")]
Last = Annotated[int, Parameter(ge=1, le=RETAINED // BASE, description="Number of windows, at most.")]
Minutes = Annotated[int, Parameter(ge=1, le=24 * 60, description="How far back, in minutes.")]
Limit = Annotated[int, Parameter(ge=1, le=10_000, description="Number of senders, at most.")]


class ByteWindow(msgspec.Struct, frozen=True):
    """A window of time, in ms since 1970, and what was exchanged in it."""

    start: int
    end: int
    bytes: int
    messages: int
    late: int  # of the messages, those that arrived after the window had closed


class Sender(msgspec.Struct, frozen=True):
    """A device, and what it has sent. The empty device stands for unknown senders."""

    app: str
    device: str
    bytes: int
    messages: int


class Place:
    """A live stream's place among all: taken while this object is there."""


class Listeners:
    """Counts live streams."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._places: WeakSet[Place] = WeakSet()

    def admit(self) -> Place:
        """Accept one more, from now on, and even if its stream never begins.

        Raises:
            ServiceUnavailableException: there are too many.
        """
        if (now := len(self._places)) >= self._most:
            raise busy(f"{now} listen already")
        place = Place()
        self._places.add(place)
        return place


class State(msgspec.Struct, frozen=True):
    """How far windows have closed, in ms since 1970."""

    now: int
    closed_until: int
    behind: int  # ms by which windows close later than they should
    reasons: dict[str, str]  # why, by component; empty when all is well


def series(app: str, device: str) -> str:
    """Name the series that a request selects."""
    if device:
        return sender_series(app or DEFAULT_APP, device)
    return app_series(app) if app else ALL


def shape(size: str, hop: str) -> Shape:
    """Parse the shape of windows that a request selects.

    Raises:
        ClientException: there are no such windows.
    """
    if size not in SIZES:
        raise ClientException(f"size must be one of {', '.join(SIZES)}")
    if (hop or size) not in SIZES or SIZES[hop or size] > SIZES[size]:
        raise ClientException("hop must be 10s or equal to size")
    return Shape(SIZES[size], SIZES[hop or size])


def own_app(request: Asking, app: str) -> str:
    """Return the app that a request may ask about: with a key of one app, that.

    Raises:
        PermissionDeniedException: it asks about another.
    """
    of = app or only_app(request) or ""
    require_app(request, of)
    return of


def create_app(
    health: Health,
    store: WindowStore,
    stop: asyncio.Event,
    origins: Sequence[str] = (),
    listeners: int = LISTENERS,
    keys: Keys | None = None,
) -> Litestar:
    """Create the HTTP application. Streams end when `stop` is set; pages of `origins` may read it."""
    searches, streams = Searches(waiting=WAITING), Listeners(listeners)

    @get("/windows", guards=[READ], responses=FAILURES)
    async def windows(
        request: Asking,
        size: Size = "10s",
        hop: Hop = "",
        app: App = "",
        device: Device = "",
        last: Last = 30,
    ) -> list[ByteWindow]:
        """Return closed windows, newest last. A window without payloads is included, with zeros."""
        of, name = shape(size, hop), series(own_app(request, app), device)
        return await searches.run(lambda: [ByteWindow(*w) for w in store.last(of, last, name)])

    @get(
        "/windows/live",
        guards=[READ],
        responses=FAILURES,
        media_type="text/event-stream",
        response_description="Events; the data of each is JSON.",
        sync_to_thread=False,
    )
    def live(
        request: Asking, size: Size = "10s", hop: Hop = "", app: App = "", device: Device = ""
    ) -> ServerSentEvent:
        """Stream each window when it closes (event `closed`) and whenever late payloads change it
        (`corrected`); every second the `running` one and how far windows have closed (`state`)."""
        events = _live(health, store, shape(size, hop), series(own_app(request, app), device), stop)
        return ServerSentEvent(_counted(streams.admit(), events))

    @get("/senders", guards=[READ], responses=FAILURES)
    async def senders(
        request: Asking, app: App = "", minutes: Minutes = 60, limit: Limit = 500
    ) -> list[Sender]:
        """Return the senders of recent payloads, most bytes first."""

        of = own_app(request, app)

        def found() -> list[Sender]:
            every = _senders(store, store.now() - minutes * 60_000)
            return [sender for sender in every if of in ("", sender.app)][:limit]

        return await searches.run(found)

    routes = [windows, live, senders, *page_handlers()]
    return application("CloudMatch analytics", health, routes, origins, keys)


def _senders(store: WindowStore, since: int) -> list[Sender]:
    """Return all senders since a time, most bytes first."""
    found = []
    for name, sums in store.senders(since).items():
        app, _, device = map(_untoken, name.partition("."))
        found.append(Sender(app, device, sums.bytes, sums.messages))
    return sorted(found, key=lambda sender: (-sender.bytes, sender.app, sender.device))


def _untoken(token: str) -> str:
    try:
        return untoken(token)
    except UNREADABLE:  # what was stored is damaged
        return token


async def _counted(
    place: Place,  # held until this ends
    events: AsyncIterator[ServerSentEventMessage],
) -> AsyncIterator[ServerSentEventMessage]:
    async for event in events:
        yield event


async def _live(
    health: Health, store: WindowStore, windows: Shape, name: str, stop: asyncio.Event
) -> AsyncIterator[ServerSentEventMessage]:
    """Yield the events of `/windows/live` for the series `name`."""
    sent, corrections = store.closed_until, store.corrections
    check = 0
    while not stop.is_set():
        before, corrections = corrections, store.corrections
        sent = min(sent, store.closed_until)  # windows may be reopened
        sent -= sent % windows.hop
        for window in store.corrected(windows, before, name) if corrections > before else ():
            if window.end <= sent:
                yield _event("corrected", ByteWindow(*window))
        for window in store.last(windows, (store.closed_until - sent) // windows.hop, name):
            sent = window.end
            yield _event("closed", ByteWindow(*window))
        if check % RUNNING == 0:
            now = store.now()
            yield _event("running", ByteWindow(*store.running(windows, now, name)))
            yield _event("state", State(now, store.closed_until, store.behind(now), health.reasons()))
        check += 1
        await asyncio.sleep(POLL_INTERVAL)


def _event(name: str, data: msgspec.Struct) -> ServerSentEventMessage:
    return ServerSentEventMessage(event=name, data=msgspec.json.encode(data).decode())


def page_handlers() -> list[ControllerRouterHandler]:
    """Create the handlers that serve the page from the folder `web`; it loads nothing from elsewhere."""
    folder = files(__package__).joinpath("web")
    contents = {name: folder.joinpath(name).read_bytes() for name in FILES}

    def respond(name: str) -> Response[bytes]:
        if name not in contents:
            raise NotFoundException(f"there is no {name}")
        headers = {"content-type": FILES[name], "Cache-Control": "no-cache"}
        return Response(contents[name], headers=headers)

    @get("/", sync_to_thread=False, include_in_schema=False)
    def page() -> Response[bytes]:
        return respond("index.html")

    @get("/web/{name:path}", sync_to_thread=False, include_in_schema=False)
    def part(name: FromPath[PurePosixPath]) -> Response[bytes]:
        return respond(str(name).removeprefix("/"))

    return [page, part]


class HttpThread:
    """The HTTP API in a thread with an event loop of its own."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        store: WindowStore,
        health: Health,
        http: HttpSettings,
        listeners: int,
        keys: Keys | None,
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        app = create_app(health, store, self._stop, http.allowed_origins, listeners, keys)
        serving = serve(app, NAME, sockets, self._stop, http.connections)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="http")
        self._future: Future[None] = self._thread.submit(self._loop.run_until_complete, serving)

    def on_end(self, callback: Callable[[], object]) -> None:
        """Call back when it ends, or at once if it has ended."""
        self._future.add_done_callback(lambda _: callback())

    def stop(self) -> None:
        """Stop it."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.shutdown()

    def result(self) -> None:
        """Raise the error that ended it, if any."""
        self._loop.close()
        self._future.result()
