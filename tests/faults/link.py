"""A link between a process and NATS that can be cut: then nothing passes, as if a cable was pulled."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType


class _End(asyncio.Protocol):
    """One end of one connection through the link; forwards what it receives to the other end."""

    transport: asyncio.Transport

    def __init__(self, link: "Link", other: "_End | None" = None) -> None:
        self._link = link
        self.other = other
        self.of_target = other is not None
        # received before the other end was connected
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # of a stream it is a Transport
        self._link.ends.add(self)
        if self._link.is_cut:
            self.transport.pause_reading()
        if self.other is None:
            self._link.spawn(self._connect_other())

    async def _connect_other(self) -> None:
        await self._link.intact.wait()
        try:
            other = await self._link.connect_target(lambda: _End(self._link, self))
        except OSError:
            self.transport.abort()
            return
        self.other = other
        if self.transport.is_closing():
            other.transport.close()
        for data in self._early:
            other.transport.write(data)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
        elif not self.other.transport.is_closing():
            self.other.transport.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._link.ends.discard(self)
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.close()

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and not self._link.is_cut:
            self.other.transport.resume_reading()


class Link:
    """A link to a local port, or for each connection to the first of several that answers."""

    def __init__(self, target: int | Callable[[], Sequence[int]]) -> None:
        self.target = target
        self.port = 0
        self.ends: set[_End] = set()
        # set while it is not cut
        self.intact = asyncio.Event()
        self.intact.set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_cut(self) -> bool:
        """Whether nothing passes."""
        return not self.intact.is_set()

    async def __aenter__(self) -> "Link":
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _End(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        for end in list(self.ends):
            end.transport.abort()

    def cut(self, *, answers_only: bool = False) -> None:
        """Let nothing pass, or no answers. What is sent meanwhile waits in the senders' sockets."""
        if not answers_only:
            self.intact.clear()
        for end in self.ends:
            if end.of_target or not answers_only:
                end.transport.pause_reading()

    def heal(self) -> None:
        """Let everything pass again."""
        self.intact.set()
        for end in self.ends:
            end.transport.resume_reading()

    async def connect_target(self, make: Callable[[], _End]) -> _End:
        """Connect to the first port that answers.

        Raises:
            OSError: none does.
        """
        for port in self.target() if callable(self.target) else [self.target]:
            with contextlib.suppress(OSError):
                _, end = await asyncio.get_running_loop().create_connection(make, "127.0.0.1", port)
                return end
        raise ConnectionError("no port answers")

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Keep a task until it ends."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
