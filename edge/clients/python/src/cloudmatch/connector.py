"""Keep a conversation connected: WebSockets, one after the other, until it is closed."""

import asyncio
import contextlib
import json
import random
from collections.abc import Callable, Mapping

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus
from websockets.typing import Subprotocol

from cloudmatch.core.address import address
from cloudmatch.core.conversation import Conversation
from cloudmatch.core.errors import CloudMatchError, ProtocolError, RefusedError
from cloudmatch.core.retry import REFUSED, STOPPED, Retry

DIALECT = Subprotocol("cloudmatch.v1")
GOING_AWAY, ABNORMAL = 1001, 1006  # close codes
OPEN_TIMEOUT = 10.0  # s for one attempt to connect
CLOSE_TIMEOUT = 2.0  # s for the server to answer our close
STEADY = 5.0  # s after which a connection counts as one that works


class Line:
    """The connections of one conversation."""

    def __init__(
        self,
        url: str,
        who: Mapping[str, str],
        token: str | None,
        conversation: Conversation,
        changed: Callable[[], None],
    ) -> None:
        address(url, who)  # refuses what is no URL
        self.url = url
        # why the last attempt failed
        self.failure: Exception | None = None
        # why the conversation is closed, when no close code says it
        self.error: CloudMatchError | None = None
        self._who = dict(who)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._conversation = conversation
        self._changed = changed
        self._retry = Retry()
        self._socket: ClientConnection | None = None
        self._task: asyncio.Task[None] | None = None
        # set when there may be frames to write
        self._frames = asyncio.Event()

    def start(self) -> None:
        """Connect, and connect again whenever that is lost."""
        if self._task is not None:
            raise RuntimeError("this device is connected already")
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Connect no more; `start` goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    def wake(self) -> None:
        """Write what the conversation has to say; give up a connection that it holds for dead."""
        self._frames.set()
        if self._conversation.dead:
            self.cut()

    def cut(self) -> None:
        """Break the connection, if there is one."""
        if self._socket is not None:
            self._socket.transport.abort()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _run(self) -> None:
        conversation = self._conversation
        try:
            while not conversation.closed:
                code = await self._connection()
                conversation.lost(code, self._now())
                if code in STOPPED:
                    conversation.close(code, STOPPED[code])
                self._changed()
                if not conversation.closed:
                    await asyncio.sleep(self._retry.pause(code, random.random()))  # noqa: S311 # no secret
        except Exception as bug:
            self.error = CloudMatchError(f"the client has failed: {bug!r}")
            conversation.close(GOING_AWAY, str(self.error))
            raise
        finally:
            conversation.lost(GOING_AWAY, self._now())
            self._changed()

    async def _connection(self) -> int | None:
        """Connect and talk; give the close code, the status of HTTP, or None when it broke."""
        url = address(self.url, self._who | self._conversation.connect(self._now()))
        self._changed()  # time may have ended the match
        try:
            socket = await connect(
                url,
                subprotocols=[DIALECT],
                additional_headers=self._headers,
                compression=None,
                open_timeout=OPEN_TIMEOUT,
                close_timeout=CLOSE_TIMEOUT,
                ping_interval=None,  # the conversation has its own sign of life
                max_size=None,
            )
        except InvalidStatus as answer:
            self.failure = answer
            status = answer.response.status_code
            if status in REFUSED:
                self._refuse(_refusal(status, bytes(answer.response.body or b"")))
            return status
        except (OSError, EOFError, InvalidHandshake, InvalidMessage) as failure:
            self.failure = failure
            return None
        if socket.subprotocol != DIALECT:
            await socket.close(GOING_AWAY)
            self._refuse(RefusedError(101, "unknown_subprotocol", "the server does not speak cloudmatch.v1"))
            return None
        began = self._now()
        code = await self._talk(socket)
        if self._now() > began + STEADY:
            self._retry.succeeded()
        return code

    def _refuse(self, error: RefusedError) -> None:
        self.error = error
        self._conversation.close(error.status, str(error))

    async def _talk(self, socket: ClientConnection) -> int | None:
        self._socket = socket
        writing = asyncio.create_task(self._write(socket))
        try:
            async for frame in socket:
                self._conversation.receive(frame, self._now())
                self._changed()
        except ConnectionClosed:
            pass
        except ProtocolError as error:
            self.failure = error
        finally:
            self._socket = None
            writing.cancel()
            await socket.close(GOING_AWAY)
        return None if socket.close_code == ABNORMAL else socket.close_code

    async def _write(self, socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):  # the reader notices
            while True:
                await self._frames.wait()
                self._frames.clear()
                for frame in self._conversation.frames():
                    await socket.send(frame)


def _refusal(status: int, body: bytes) -> RefusedError:
    """Read why a server does not let a device in."""
    try:
        error = json.loads(body)["error"]
        return RefusedError(status, error["code"], error["detail"], error.get("parameter"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return RefusedError(status, "refused", f"the server answers {status}: is its URL right?")
