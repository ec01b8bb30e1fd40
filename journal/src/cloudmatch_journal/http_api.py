"""The journal's HTTP API: events, devices, matches; and the reports of 2019 clients."""

import logging
from collections.abc import Callable
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import msgspec
from litestar import MediaType, Response, delete, get, post
from litestar.exceptions import (
    InternalServerException,
    NotFoundException,
    ServiceUnavailableException,
)
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import OpenAPIType, Operation, Schema
from litestar.openapi.spec import Parameter as OpenAPIParameter
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.types import ControllerRouterHandler
from msgspec import Meta

from cloudmatch_bus.contract.messages import AmountReported, DeviceForgotten
from cloudmatch_bus.process.clock import now_ms
from cloudmatch_bus.process.http import KEYED, Asking, errors, require_json
from cloudmatch_bus.process.http_keys import audit, guard, only_app, require_app
from cloudmatch_bus.process.searches import Searches
from cloudmatch_journal.core.ledger import Kind, Ledger
from cloudmatch_journal.core.shown import ShownFact
from cloudmatch_journal.core.states import DeviceState, MatchState
from cloudmatch_journal.files import StoreError
from cloudmatch_journal.pages import Search
from cloudmatch_journal.store import Store

log = logging.getLogger("http_api")

Id = Annotated[str, Meta(min_length=1, max_length=64)]
# sums beyond this are not exact in every JSON parser
Amount = Annotated[
    int,
    Meta(
        gt=-(10**15),
        lt=10**15,
        description='An integer, or one in a string (`"300"`), as in 2019; of `bytesSent` not negative.',
    ),
]
ReportType = Annotated[
    Literal["connectionsOpen", "connectionOpen", "bytesSent"],
    Meta(description="`connectionOpen`, as some requests of 2019 spell it, means `connectionsOpen`."),
]

App = Annotated[str, QueryParameter(name="app", description="The device's app.")]
After = Annotated[int, QueryParameter(name="after", ge=0, description="Only events after this position.")]
Limit = Annotated[
    int,
    QueryParameter(
        name="limit",
        ge=1,
        le=1000,
        description=(
            "Number of events, at most; events of one position are never split over two pages, "
            "so the last position may exceed it."
        ),
    ),
]
Type = Annotated[Kind | None, QueryParameter(name="type", description="Only events of this type.")]

BAD_PARAMETER = KEYED | errors(bad_request="A parameter is invalid.")
SEARCH = BAD_PARAMETER | errors(unavailable="Too many searches wait; `Retry-After` says when to ask again.")
UNKNOWN_DEVICE = ResponseSpec(
    str, generate_examples=False, description="No event names the device: a sentence, a JSON string."
)
READ = guard("facts:read")
THANKS = '"Thanks!"'  # JSON: litestar writes strings as they are

Publish = Callable[[AmountReported | DeviceForgotten], bool]


class DeviceOperation(Operation):
    """An operation at a path that ends in the id of a device: a string, even with slashes."""

    def __post_init__(self) -> None:
        for each in self.parameters or ():
            if isinstance(each, OpenAPIParameter) and each.param_in == "path":
                each.schema = Schema(type=OpenAPIType.STRING)
                each.description = "The device's id, percent-encoded."


class Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An amount that a client reports about a device, in the format of 2019."""

    device_id: Id
    event_type: ReportType
    amount: Amount
    app: Id = "default"

    def __post_init__(self) -> None:
        if self.event_type == "bytesSent" and self.amount < 0:
            raise ValueError("amount: bytesSent cannot be negative")


class Device(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The state of a device."""

    device_id: str
    connections_open: int
    bytes_sent: int
    bytes_received: int
    messages_sent: int
    messages_received: int
    matches: int
    last_seen: int  # ms since 1970


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A fact and its position in the journal."""

    position: Annotated[int, Meta(description="Events that came in one batch have the same.")]
    fact: ShownFact


class Events(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the journal, oldest event first."""

    events: list[Event]
    next: Annotated[int, Meta(description="`after` of the next page; it never changes.")]
    more: Annotated[bool, Meta(description="Whether there are events after `next` now.")]
    first_position: Annotated[
        int, Meta(description="Events before this position were dropped. 0: none was.")
    ] = msgspec.field(name="begins")


class Direction(msgspec.Struct, frozen=True, kw_only=True):
    """What one device of a match sent to the other."""

    sender: str
    receiver: str
    payloads: int
    bytes: int


class Match(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The state of a match."""

    match: int = msgspec.field(name="matchId")
    app: str
    devices: tuple[str, str]
    distance: float | None  # metres
    made_at: int | None  # ms since 1970
    ended_at: int | None
    ended_by: str | None
    reason: str | None
    unaccounted: Annotated[
        int, Meta(description="Payloads that were delivered and are not counted: nobody knows their sizes.")
    ]
    directions: list[Direction] = msgspec.field(name="ways")


class Asked(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A device that will be erased."""

    device_id: str
    app: str


class UnknownDeviceError(NotFoundException):
    """No event names the device."""


def handlers(store: Store, ledger: Ledger, publish: Publish) -> list[ControllerRouterHandler]:
    """Create the handlers that answer from `store` and `ledger` and pass reports to `publish`."""
    return [
        _report_handler(publish),
        _forget_handler(ledger, publish),
        *_event_handlers(store),
        *_state_handlers(ledger),
    ]


def _report_handler(publish: Publish) -> ControllerRouterHandler:
    @post(
        "/device/event",
        status_code=200,
        media_type=MediaType.JSON,
        guards=[guard("facts:write"), require_json],
        responses=KEYED
        | errors(
            bad_request="The report is invalid: nothing is stored.",
            too_large="The report has more than 256 KiB: nothing is stored.",
            unsupported_media_type="`Content-Type` is not JSON: nothing is stored.",
            unavailable="The bus is not accepting reports now.",
        ),
        response_description='The JSON string `"Thanks!"`, as in 2019.',
        sync_to_thread=False,
    )
    def report(request: Asking, data: JSONBody[Report]) -> str:
        """Report an amount about a device. It is published on the bus like any other fact.

        `Content-Type` must be `application/json` or end in `+json`.
        """
        require_app(request, data.app)
        fact = AmountReported(
            app=data.app,
            at=now_ms(),
            device=data.device_id,
            event_type="bytesSent" if data.event_type == "bytesSent" else "connectionsOpen",
            amount=data.amount,
        )
        if not publish(fact):
            raise ServiceUnavailableException("the bus is not accepting reports now")
        audit(request, "report", data.app, data.device_id, "done")
        return THANKS

    return report


def _forget_handler(ledger: Ledger, publish: Publish) -> ControllerRouterHandler:
    @delete(
        "/device/{device_id:path}",
        guards=[guard("devices:erase")],
        status_code=202,
        responses=KEYED
        | errors(
            bad_request="A parameter is invalid.",
            not_found="No event names the device, or it is forgotten.",
            unavailable="The bus is not accepting requests now.",
        ),
        operation_class=DeviceOperation,
        response_description="It is asked for, and done within seconds.",
        sync_to_thread=False,
    )
    def forget(request: Asking, app: App = "default") -> Asked:
        """Erase a device, wherever anything about it is kept.

        Its state goes. The events of its peers stay, and name it by a pseudonym; places, tags and distances
        go. What happens to it later is kept.
        """
        require_app(request, app)
        device_id = _device_id(request, 2)
        if ledger.device(app, device_id) is None:
            raise NotFoundException(f"no event names device {device_id} of app {app}")
        if not publish(DeviceForgotten(app=app, at=now_ms(), device=device_id)):
            raise ServiceUnavailableException("the bus is not accepting requests now")
        audit(request, "erase", app, device_id, "asked")
        return Asked(device_id=device_id, app=app)

    return forget


def _event_handlers(store: Store) -> list[ControllerRouterHandler]:
    searches = Searches()

    async def answer(search: Search, limit: int) -> Response[Events]:
        begins = store.first_position
        body = await searches.run(lambda: _encoded_page(search, limit, begins))
        return Response(body, media_type=MediaType.JSON)

    @get(
        "/device/events/{device_id:path}",
        guards=[READ],
        responses=SEARCH,
        operation_class=DeviceOperation,
    )
    async def device_events(
        request: Asking, app: App = "default", after: After = 0, limit: Limit = 100
    ) -> Response[Events]:
        """Return a page of the events that name a device.

        It may be short while `more` is true: one page searches a bounded part of the journal.
        """
        require_app(request, app)
        return await answer(store.find(after, device=(app, _device_id(request))), limit)

    @get("/events", guards=[READ], responses=SEARCH)
    async def events(
        request: Asking,
        after: After = 0,
        limit: Limit = 100,
        type: Type = None,  # noqa: A002 # its public name
    ) -> Response[Events]:
        """Return a page of the journal; for a key of one app, of that.

        It may be short while `more` is true: one page searches a bounded part of the journal.
        """
        return await answer(store.find(after, kind=type, app=only_app(request)), limit)

    return [device_events, events]


def _state_handlers(ledger: Ledger) -> list[ControllerRouterHandler]:
    @get(
        "/device/state/{device_id:path}",
        guards=[READ],
        exception_handlers={UnknownDeviceError: _sentence},
        responses=BAD_PARAMETER | {404: UNKNOWN_DEVICE},
        operation_class=DeviceOperation,
        sync_to_thread=False,
    )
    def device_state(request: Asking, app: App = "default") -> Device:
        """Return the state of a device. If it is unknown, the answer is that of 2019: a JSON string."""
        require_app(request, app)
        device_id = _device_id(request)
        state = ledger.device(app, device_id)
        if state is None:
            where = "" if app == "default" else f" in app {app}"
            raise UnknownDeviceError(f"deviceId {device_id} could not be found{where}")
        return _device(state)

    @get(
        "/match/{match_id:int}",
        guards=[READ],
        responses=BAD_PARAMETER | errors(not_found="No event names this match."),
        sync_to_thread=False,
    )
    def match(request: Asking, match_id: FromPath[int]) -> Match:
        """Return the state of a match."""
        state = ledger.match(match_id)
        if state is None or only_app(request) not in (None, state.app):
            raise NotFoundException(f"no event names match {match_id}")
        return _match(state)

    return [device_state, match]


def _sentence(_: Asking, unknown: UnknownDeviceError) -> Response[bytes]:
    """Answer as in 2019; every other error is an `Error`."""
    return Response(msgspec.json.encode(unknown.detail), status_code=404, media_type=MediaType.JSON)


def _device_id(request: Asking, before: int = 3) -> str:
    """Return the id in the raw path, which may contain an escaped slash, behind so many slashes."""
    raw: bytes = request.scope["raw_path"]
    return unquote(raw.partition(b"?")[0].split(b"/", before)[before])


def _encoded_page(search: Search, limit: int, first_position: int) -> Any:
    """Search, and encode what is found as `Events`: of a large page that takes a while, too."""
    try:
        page = search.page(limit)
    except StoreError as error:
        log.error("page not served: %s", error)  # noqa: TRY400  # the disk is at fault, not the code
        raise InternalServerException("see the log") from error
    events = [Event(position=position, fact=fact) for position, fact in page.entries]
    return msgspec.json.encode(
        Events(events=events, next=page.next, more=page.more, first_position=first_position)
    )


def _device(state: DeviceState) -> Device:
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


def _match(state: MatchState) -> Match:
    return Match(
        match=state.match,
        app=state.app,
        devices=state.devices,
        distance=state.distance,
        made_at=state.made_at,
        ended_at=state.ended_at,
        ended_by=state.ended_by,
        reason=state.reason,
        unaccounted=sum(direction.unaccounted for direction in state.directions),
        directions=[
            Direction(sender=d.sender, receiver=d.receiver, payloads=d.payloads, bytes=d.bytes)
            for d in state.directions
        ],
    )
