"""uvicorn's HTTP/1.1, with limits and errors like those of an edge.

uvicorn waits for ever; here each request must arrive within seconds, and whole, and an answer must be read.
Of too many connections, the last ones are refused.
"""

import asyncio
import sys
from typing import Any

import h11
import msgspec
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from cloudmatch_bus.process.health import LIVENESS, METRICS, READINESS
from cloudmatch_bus.process.http_errors import error

HEAD_MAX = 16 * 1024  # bytes of a request's head
REQUEST_TIMEOUT = 5.0  # s for a request to arrive, body and all
UNREAD_TIMEOUT = 30.0  # s for which an answer waits to be read
PROBES = (LIVENESS, READINESS, METRICS)
WHY = {
    414: f"the request line has more than {HEAD_MAX} bytes",
    431: f"the headers have more than {HEAD_MAX} bytes",
}


class _Connection(h11.Connection):
    """h11, with a limit that does not depend on how a head arrives."""

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            if len(event.target) > HEAD_MAX:
                raise h11.RemoteProtocolError(WHY[414], error_status_hint=414)
            if len(event.target) + sum(len(name) + len(value) for name, value in event.headers) > HEAD_MAX:
                raise h11.RemoteProtocolError(WHY[431], error_status_hint=431)
        return event


class _Full:
    """An application in front of another one: it answers only probes."""

    def __init__(self, behind: Any) -> None:
        self._behind = behind

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] in PROBES:
            await self._behind(scope, receive, send)
            return
        body = msgspec.json.encode(error(503, "too many connections"))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"retry-after", b"1"),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Http(H11Protocol):
    """One connection.

    Args:
        most: connections that are served; others are answered with 503, except probes. Beyond twice as many
            they are closed.
    """

    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, most: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _Connection(h11.SERVER, HEAD_MAX)
        self._most = most

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._expect_request()
        if len(self.connections) > 2 * self._most:
            self.transport.abort()
        elif len(self.connections) > self._most:
            self.app = _Full(self.app)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._deadline, self._unread):
            if timer is not None:
                timer.cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    def on_response_complete(self) -> None:
        self._expect_request()
        super().on_response_complete()

    def _expect_request(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(REQUEST_TIMEOUT, self._expire)

    def _expire(self) -> None:
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            data = data.lstrip(b"\r\n")  # empty lines may precede a request (RFC 9112, 2.2)
        if data:  # nothing would mean the end to h11
            super().data_received(data)

    def _should_upgrade(self) -> bool:
        return False  # a server may ignore it

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request; `msg` says nothing, but uvicorn calls this while it handles why."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # an answer has begun: no other may follow
            return
        why = sys.exception()
        status, detail = getattr(why, "error_status_hint", 400), f"this is no HTTP request: {why}"
        if "request line" in str(why):
            detail += "; it is METHOD /path HTTP/1.1, and what is not ASCII in a URL is percent-encoded"
        if status == 431 and b"\n" not in self.conn.trailing_data[0] and str(why) != WHY[431]:
            status = 414
        body = msgspec.json.encode(error(status, WHY.get(status, detail)))
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            "Cache-Control": "no-store",
        }
        answer = h11.Response(
            status_code=status, headers=list(headers.items()), reason=STATUS_PHRASES[status]
        )
        for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
