"""A channel of RabbitMQ that publishes prepared frames, many messages at a time.

aio-pika keeps the connection. Below it, aiormq makes objects of frames, a future and a lock for each message:
half of the CPU time of publishing a size. This channel of aiormq writes bytes and counts confirms instead. It
relies on private parts of aiormq, whose version is pinned: its reader calls `_on_confirm_frame` and
`_on_return_frame`; `_get_frame` and `_read_content` read what was returned; the connection finds a channel by
`channels`.
"""

import asyncio

from aio_pika.abc import AbstractConnection
from aiormq import spec
from aiormq.abc import AbstractConnection as UnderlayConnection
from aiormq.abc import ChannelFrame, ConfirmationFrameType
from aiormq.channel import Channel
from pamqp.header import ContentHeader

from cloudmatch_bridge_rabbit.core.confirms import Confirms
from cloudmatch_bridge_rabbit.core.frames import Block


class UnconfirmedError(Exception):
    """RabbitMQ refused a message, or cannot be used any more; the text gives the reason."""


class PreparedChannel(Channel):
    """A channel for prepared frames, all of messages; it consumes nothing."""

    def __init__(self, connector: UnderlayConnection, number: int) -> None:
        super().__init__(connector, number, publisher_confirms=True)
        self._confirms = Confirms()
        self._reported = 0  # confirms that `new_confirms` has returned
        self._awaited = 0  # the tag for which `confirmed` waits
        self._wake = asyncio.Event()
        self._refusal: str | None = None
        self.closing.add_done_callback(lambda _: self._wake.set())

    @property
    def confirms(self) -> int:
        """How many messages RabbitMQ has confirmed."""
        return self._confirms.count

    @property
    def in_flight(self) -> int:
        """How many messages are sent and not confirmed."""
        return self._confirms.sent - self._confirms.count

    def new_confirms(self) -> int:
        """Return how many more messages are confirmed than at the last call."""
        known, self._reported = self._reported, self._confirms.count
        return self._reported - known

    async def send(self, block: Block) -> int:
        """Write a block; return the delivery tag of its last message.

        Raises:
            UnconfirmedError: the channel is closed.
        """
        self._raise_refusal()
        await self.write_queue.put(ChannelFrame(payload=block.frames, should_close=False))
        return self._confirms.send(block.messages)

    async def confirmed(self, tag: int, timeout: float) -> bool:
        """Wait until all messages up to this tag are confirmed, for `timeout` s at most; return whether.

        Raises:
            UnconfirmedError: RabbitMQ refused one, or closed the channel.
        """
        if self._confirms.upto < tag:
            self._awaited = tag
            self._wake.clear()
            self._raise_refusal()
            try:
                await asyncio.wait_for(self._wake.wait(), timeout)
            except TimeoutError:
                return False
        self._raise_refusal()
        return self._confirms.upto >= tag

    def _raise_refusal(self) -> None:
        if self._refusal is None and self.is_closed:
            closed = self.closing
            known = closed.done() and not closed.cancelled() and closed.exception()
            self._refusal = f"the channel was closed: {known}" if known else "the connection was lost"
        if self._refusal is not None:
            raise UnconfirmedError(self._refusal)

    async def _on_confirm_frame(self, frame: ConfirmationFrameType) -> None:
        if isinstance(frame, spec.Basic.Nack):
            self._refuse("it refused a message: a queue is full, or its node is down")
        else:
            self._confirms.confirm(frame.delivery_tag or 0, multiple=bool(getattr(frame, "multiple", False)))
            if self._confirms.upto >= self._awaited:
                self._wake.set()

    async def _on_return_frame(self, frame: spec.Basic.Return) -> None:
        header = await self._get_frame()
        assert isinstance(header, ContentHeader)
        await self._read_content(frame, header)
        self._refuse(f"no queue takes what is published to {frame.exchange}: {frame.reply_text}")

    def _refuse(self, reason: str) -> None:
        self._refusal = self._refusal or reason
        self._wake.set()


async def open_channel(connection: AbstractConnection) -> PreparedChannel:
    """Open a channel for prepared frames."""
    assert connection.transport is not None
    below = connection.transport.connection
    await below.ready()
    number = max(below.channels, default=0) + 1
    channel = below.channels[number] = PreparedChannel(below, number)
    await channel.open()
    return channel
