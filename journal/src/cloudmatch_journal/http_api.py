"""The journal's HTTP interface: events, devices, matches; and the reports of 2019 clients."""

from collections.abc import Callable
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import msgspec
from litestar import MediaType, Request, get, post
from litestar.exceptions import NotFoundException, ServiceUnavailableException
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.types import ControllerRouterHandler
from msgspec import Meta

from cloudmatch_bus.contract.messages import AmountReported, AnyFact
from cloudmatch_bus.process.clock import now_ms
from cloudmatch_journal.core.ledger import Kind, Ledger, MatchState
from cloudmatch_journal.store import Page, Store

Id = Annotated[str, Meta(min_length=1, max_length=64)]
# beyond this no sum is exact in every JSON reader
Amount = Annotated[int, Meta(gt=-(10**15), lt=10**15)]

App = Annotated[str, QueryParameter(name="app", description="The device's app.")]
After = Annotated[int, QueryParameter(name="after", ge=0, description="Only events behind this position.")]
Limit = Annotated[int, QueryParameter(name="limit", ge=1, le=1000, description="Events in a page, at most.")]
Type = Annotated[Kind | None, QueryParameter(name="type", description="Only events of this type.")]


class Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An amount that a client reports about a device, in the shape of 2019."""

    device_id: Id
    event_type: Literal["connectionsOpen", "bytesSent"]
    amount: Amount
    app: Id = "default"

    def __post_init__(self) -> None:
        if self.event_type == "bytesSent" and self.amount < 0:
            raise ValueError("amount: bytesSent cannot be negative")


class Device(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the journal says of a device."""

    device_id: str
    connections_open: int
    bytes_sent: int
    bytes_received: int
    messages_sent: int
    messages_received: int
    matches: int
    last_seen: int  # ms since 1970


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A fact and where it stands in the journal."""

    position: int
    fact: AnyFact


class Events(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the journal, oldest first."""

    events: list[Event]
    next: Annotated[int, Meta(description="The `after` of the following page, for ever.")]
    more: Annotated[bool, Meta(description="Whether the journal goes on behind `next` already.")]
    begins: Annotated[
        int, Meta(description="Where the journal now begins: events before this were let go. 0: none was.")
    ]


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """What one device of a match sent the other."""

    sender: str
    receiver: str
    payloads: int
    bytes: int


class Match(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the journal says of a match."""

    match_id: int
    app: str
    devices: tuple[str, str]
    distance: float | None  # metres
    made_at: int | None  # ms since 1970
    ended_at: int | None
    ended_by: str | None
    reason: str | None
    ways: list[Way]


def _device_id(request: Request[Any, Any, Any]) -> str:
    """The id in the path, as it was sent: it may hold a slash."""
    raw: bytes = request.scope["raw_path"]
    return unquote(raw.partition(b"?")[0].split(b"/", 3)[3])


def _page(page: Page, begins: int) -> Events:
    events = [Event(position=position, fact=fact) for position, fact in page.entries]
    return Events(events=events, next=page.next, more=page.more, begins=begins)


def _match(state: MatchState) -> Match:
    return Match(
        match_id=state.match,
        app=state.app,
        devices=state.devices,
        distance=state.distance,
        made_at=state.made_at,
        ended_at=state.ended_at,
        ended_by=state.ended_by,
        reason=state.reason,
        ways=[
            Way(sender=w.sender, receiver=w.receiver, payloads=w.payloads, bytes=w.bytes) for w in state.ways
        ],
    )


def handlers(
    store: Store, ledger: Ledger, publish: Callable[[AmountReported], bool]
) -> list[ControllerRouterHandler]:
    """Make the handlers that answer from `store` and `ledger` and hand reports to `publish`."""

    @post("/device/event", status_code=200, media_type=MediaType.TEXT, sync_to_thread=False)
    def report(data: JSONBody[Report]) -> str:
        """Report an amount about a device. It goes through the bus like any other event."""
        fact = AmountReported(
            app=data.app,
            at=now_ms(),
            device=data.device_id,
            event_type=data.event_type,
            amount=data.amount,
        )
        if not publish(fact):
            raise ServiceUnavailableException("the bus takes no reports now")
        return "Thanks!"

    @get("/device/state/{device_id:path}", sync_to_thread=False)
    def device_state(request: Request[Any, Any, Any], app: App = "default") -> Device:
        """Say what is known of a device."""
        device_id = _device_id(request)
        state = ledger.device(app, device_id)
        if state is None:
            raise NotFoundException(f"no event names device {device_id!r} of app {app!r}")
        return Device(
            device_id=state.device,
            connections_open=state.connections_open,
            bytes_sent=state.bytes_sent,
            bytes_received=state.bytes_received,
            messages_sent=state.messages_sent,
            messages_received=state.messages_received,
            matches=state.matches,
            last_seen=state.last_seen,
        )

    @get("/device/events/{device_id:path}", sync_to_thread=False)
    def device_events(
        request: Request[Any, Any, Any], app: App = "default", after: After = 0, limit: Limit = 100
    ) -> Events:
        """Page through the events that name a device."""
        return _page(store.read(after, limit, device=(app, _device_id(request))), store.begins)

    @get("/events", sync_to_thread=False)
    def events(after: After = 0, limit: Limit = 100, type: Type = None) -> Events:  # noqa: A002 # its public name
        """Page through the whole journal."""
        return _page(store.read(after, limit, kind=type), store.begins)

    @get("/match/{match_id:int}", sync_to_thread=False)
    def match(match_id: FromPath[int]) -> Match:
        """Say what is known of a match."""
        state = ledger.match(match_id)
        if state is None:
            raise NotFoundException(f"no event names match {match_id}")
        return _match(state)

    return [report, device_state, device_events, events, match]
