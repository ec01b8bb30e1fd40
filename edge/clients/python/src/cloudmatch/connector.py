"""Keep a conversation connected, by one WebSocket after another, until it is closed."""

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import Callable, Mapping, Sequence

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from cloudmatch.core.address import address
from cloudmatch.core.close_codes import ABNORMAL, GOING_AWAY
from cloudmatch.core.conversation import Conversation, State
from cloudmatch.core.edges import Edges
from cloudmatch.core.errors import CloudMatchError, ProtocolError, RefusedError, TokenError
from cloudmatch.core.retry import REFUSED, STOPPED, Retry, retry_after
from cloudmatch.core.token import Token, current

DIALECT = Subprotocol("cloudmatch.v1")
# never at DEBUG, whatever the application logs: headers and frames have tokens in them
_log = logging.getLogger("cloudmatch.websockets")
_log.setLevel(logging.INFO)
OPEN_TIMEOUT = 10.0  # s for one attempt to connect
CLOSE_TIMEOUT = 2.0  # s for the server to answer our close
STEADY = 5.0  # s after which a connection counts as stable


class Connector:
    """Makes the connections of one conversation."""

    def __init__(
        self,
        urls: Sequence[str],
        parameters: Mapping[str, str],
        token: Token | None,
        conversation: Conversation,
        on_change: Callable[[], None],
    ) -> None:
        for url in urls:
            address(url, parameters)  # raises if it is invalid
        self.edges = Edges(urls)
        # why the last attempt failed
        self.failure: Exception | None = None
        # why the conversation is closed, if not by a close code
        self.error: CloudMatchError | None = None
        self._parameters = dict(parameters)
        self._token = token
        self._denied = False  # the last attempt got 401
        self._conversation = conversation
        self._on_change = on_change
        self._retry = Retry(renews=callable(token))
        self._retry_after = 0.0  # s for which the last refusal asked to wait
        self._told = ""  # the reason of the last failure that the application knows
        self._socket: ClientConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None  # of this connection
        # set when there may be frames to write
        self._frames = asyncio.Event()

    def start(self) -> None:
        """Connect, and reconnect whenever the connection is lost."""
        if self._task is not None:
            raise RuntimeError("this device is already connected")
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop connecting, until `start` is called again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    def renew(self) -> None:
        """Get another token for this connection, if there is a function to ask."""
        if callable(self._token) and self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        pauses = Retry()
        while True:
            try:
                token = await current(self._token)
            except TokenError as failure:
                self._tell("no_token", str(failure))
                await asyncio.sleep(pauses.pause(None, random.random()))  # noqa: S311 # no secret
            else:
                assert token is not None
                self._renewing = None
                self._conversation.renew(token)
                self._on_change()
                return

    def wake(self) -> None:
        """Write the conversation's frames; drop a connection that it considers dead."""
        self._frames.set()
        if self._conversation.dead:
            self.drop_connection()

    def drop_connection(self) -> None:
        """Abort the connection, if there is one."""
        if self._socket is not None:
            self._socket.transport.abort()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _run(self) -> None:
        conversation = self._conversation
        try:
            while not conversation.closed:
                code = await self._connect_once()
                conversation.lost(code, self._now())
                if code is not None and self._retry.final(code, self._now()):
                    conversation.close(code, STOPPED[code])
                self._on_change()
                # an edge that is silent is gone, as far as this device can know
                gone = GOING_AWAY if conversation.dead else code
                if not conversation.closed and not self.edges.ended(gone):
                    pause = self._retry.pause(code, random.random(), self._retry_after)  # noqa: S311 # no secret
                    await asyncio.sleep(pause)
        except Exception as bug:
            self.error = CloudMatchError(f"the client failed: {bug!r}")
            conversation.close(GOING_AWAY, str(self.error))
            raise
        finally:
            conversation.lost(GOING_AWAY, self._now())
            self._on_change()

    async def _connect_once(self) -> int | None:
        """Connect and exchange frames; return the close code, the HTTP status, or None if it broke."""
        self._retry_after = 0.0
        try:
            token = await current(self._token)
        except TokenError as failure:
            self.failure = failure
            self._tell("no_token", str(failure))
            return None
        url = address(self.edges.url, self._parameters | self._conversation.connect(self._now()))
        self._on_change()  # the match may have expired
        try:
            socket = await connect(
                url,
                subprotocols=[DIALECT],
                logger=_log,
                additional_headers={"Authorization": f"Bearer {token}"} if token else {},
                compression=None,
                open_timeout=OPEN_TIMEOUT,
                close_timeout=CLOSE_TIMEOUT,
                ping_interval=None,  # the conversation sends its own pings
                max_size=None,
            )
        except InvalidStatus as answer:
            return self._on_answer(answer)
        except (OSError, EOFError) as failure:
            self.failure = failure
            self._retry.abandoned(self._now())
            return None
        except (WebSocketException, ValueError, ImportError) as failure:  # redirects and proxies, too
            self.failure = failure
            self._tell("unreachable", str(failure))
            return None
        if socket.subprotocol != DIALECT:
            await socket.close(GOING_AWAY)
            self.failure = RefusedError(101, "unknown_subprotocol", "the server does not speak cloudmatch.v1")
            if self._conversation.max_payload is None:  # it never did
                self._refuse(self.failure)
            return None
        self.edges.opened()
        self._told, self._denied = "", False
        began = self._now()
        code = await self._exchange_frames(socket)
        if self._now() > began + STEADY:
            self._retry.succeeded()
        return code

    def _refuse(self, error: RefusedError) -> None:
        self.error = error
        self._conversation.close(error.status, str(error))

    def _on_answer(self, answer: InvalidStatus) -> int:
        """Take an HTTP answer that is no WebSocket; return its status. Only the server's own error is final:
        whatever else answers may stand between for a while. Nor is the first 401, if there may be another
        token."""
        status = answer.response.status_code
        error = refusal(status, bytes(answer.response.body or b""))
        again = status == 401 and callable(self._token) and not self._denied
        self._denied = status == 401
        if error is not None and status in REFUSED and not again:
            self._refuse(error)
        else:
            self.failure = error or RefusedError(
                status, "refused", f"HTTP {status}: is the server's URL right?"
            )
            self._retry_after = retry_after(answer.response.headers.get("Retry-After"))
            self._tell(self.failure.code, self.failure.detail)
        return status

    def _tell(self, code: str, detail: str) -> None:
        """Report why no connection can be made, each reason once."""
        if detail != self._told:
            self._told = detail
            self._conversation.unavailable(code, detail)

    async def _exchange_frames(self, socket: ClientConnection) -> int | None:
        self._socket = socket
        writing = asyncio.create_task(self._write(socket))
        try:
            async for frame in socket:
                self._conversation.receive(frame, self._now())
                self._on_change()
        except ConnectionClosed:
            pass
        except ProtocolError as error:
            self.failure = error
        finally:
            self._socket = None
            writing.cancel()
            if self._renewing is not None:
                self._renewing.cancel()
                self._renewing = None
            if self._conversation.state is State.CONNECTING:  # no welcome has come
                self._retry.abandoned(self._now())
            await socket.close(GOING_AWAY)
        return None if socket.close_code == ABNORMAL else socket.close_code

    async def _write(self, socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):  # the reader handles it
            while True:
                await self._frames.wait()
                self._frames.clear()
                for frame in self._conversation.frames():
                    await socket.send(frame)


def refusal(status: int, body: bytes) -> RefusedError | None:
    """Return why the server does not admit the device; None if these are not the server's own words."""
    try:
        error = json.loads(body)["error"]
        code, detail = error["code"], error["detail"]
    except (ValueError, KeyError, TypeError):
        return None
    if not (isinstance(code, str) and isinstance(detail, str)):
        return None
    return RefusedError(status, code, detail, error.get("parameter"), error.get("reason"))
