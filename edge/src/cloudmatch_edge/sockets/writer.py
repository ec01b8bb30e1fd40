"""What is written to one socket: collected in each turn of the event loop, kept while the kernel takes none.

A socket for which too much waits is full: it is not read, lest answers pile up, and what is written no longer
counts as delivered. If its device goes on to take nothing, it is closed. An overfull one gets no payloads.
"""

import asyncio
from collections.abc import Callable, Sequence

from cloudmatch_edge.dialects.base import SocketFrame
from cloudmatch_edge.sockets.frame_stream import HEADERS
from cloudmatch_edge.sockets.liveness import taken_by_host

HIGH_WATER, OVERFULL = 64 * 1024, 128 * 1024  # bytes above which a socket is full, and overfull
COST = 64  # bytes that what waits takes for each turn, besides
MANY, LARGE = 256, 16 * 1024  # parts and bytes that do not wait for the end of the turn


class Writer:
    """Writes to one socket.

    Args:
        flush_soon: has `flush` called by the end of this turn.
        patience: s after which a full socket whose device takes nothing is given up.
        on_full: called once the socket is full.
        give_up: called when the patience is over.
    """

    __slots__ = (
        "_blocked",
        "_flush_soon",
        "_give_up",
        "_kept",
        "_kept_size",
        "_on_full",
        "_patience",
        "_timer",
        "_transport",
        "_unwritten",
        "closing",
        "full",
        "overfull",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        flush_soon: Callable[["Writer"], None],
        patience: float,
        on_full: Callable[[], None],
        give_up: Callable[[], None],
    ) -> None:
        transport.set_write_buffer_limits(high=1, low=0)
        self.full = self.overfull = False
        self.closing = False  # nothing more is written, except what ends the connection
        self._transport = transport
        self._flush_soon = flush_soon
        self._patience = patience
        self._on_full = on_full
        self._give_up = give_up
        self._unwritten: list[bytes] = []  # headers and payloads of frames of this turn
        self._blocked = False  # the kernel has not taken all that was written
        self._kept: list[bytes] = []  # of earlier turns, meanwhile
        self._kept_size = 0
        self._timer: asyncio.TimerHandle | None = None  # of the patience

    @property
    def empty(self) -> bool:
        """Whether the kernel has taken all."""
        return not self._blocked and not self._unwritten

    def add(self, frames: Sequence[SocketFrame]) -> None:
        """Write frames by the end of this turn."""
        out = self._unwritten
        if not out:
            self._flush_soon(self)
        for text, data in frames:
            out.append(HEADERS[text][len(data)])
            out.append(data)
        if len(out) > MANY or len(out[-1]) > LARGE:
            self.flush()

    def add_bytes(self, data: bytes) -> None:
        """Write bytes, behind what was added before."""
        if not self._unwritten:
            self._flush_soon(self)
        self._unwritten.append(data)

    def flush(self) -> None:
        """Write what was added, or keep it while the kernel takes nothing."""
        data = b"".join(self._unwritten)
        self._unwritten.clear()
        if not data or self.closing or self._transport.is_closing():
            return
        if self._blocked:
            self._kept.append(data)
            self._kept_size += len(data) + COST
            self._check()
        else:
            self._transport.write(data)

    def end(self, data: bytes) -> None:
        """Write what was added, and then what ends the connection; nothing follows that, not even pongs."""
        if self.closing:
            return
        self.closing = self.overfull = True
        data = b"".join((*self._kept, *self._unwritten, data))
        self._kept.clear()
        self._unwritten.clear()
        if data and not self._transport.is_closing():
            self._transport.write(data)
        self._check()

    def on_blocked(self) -> None:
        """The kernel has not taken all that was written."""
        self._blocked = True
        self._check()

    def on_drained(self) -> None:
        """The kernel has taken all that was written."""
        self._blocked = self.full = False
        self.overfull = self.closing
        self.stop()
        kept, self._kept, self._kept_size = self._kept, [], 0
        if kept and not self._transport.is_closing():
            self._transport.write(b"".join(kept))

    def stop(self) -> None:
        """Forget the patience."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        """Notice that the socket is full. Once the connection is closing, little suffices."""
        if not self._blocked or self._transport.is_closing():  # once TLS is over, there is no socket to ask
            return
        waiting = self._transport.get_write_buffer_size() + self._kept_size
        self.overfull = self.closing or waiting > OVERFULL
        if not self.full and (self.closing or waiting > HIGH_WATER):
            self.full = True
            self._wait(taken_by_host(self._transport)[0])
            self._on_full()

    def _wait(self, taken: int) -> None:
        """Be patient with a device whose host has taken so many bytes so far."""
        self._timer = asyncio.get_running_loop().call_later(self._patience, self._on_timer, taken)

    def _on_timer(self, before: int) -> None:
        taken, _ = taken_by_host(self._transport)
        if taken > before:
            self._wait(taken)
        else:
            self._give_up()
