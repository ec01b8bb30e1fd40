"""The door to NATS: what publishing answers when the client is in trouble."""

import asyncio

from nats.aio.client import Client
from nats.errors import OutboundBufferLimitError

from cloudmatch_bus.client.connection import Bus, _Client


class Troubled(Client):
    """A client whose publishing fails."""

    def __init__(self, trouble: Exception) -> None:
        super().__init__()
        self.trouble = trouble

    async def publish(self, *_: object, **__: object) -> None:
        raise self.trouble


def test_a_message_waits_in_the_client_when_its_socket_has_just_ended() -> None:
    assert Bus(Troubled(RuntimeError("the handler is closed"))).publish("t.x", b"")


def test_a_message_is_refused_when_the_client_keeps_no_more() -> None:
    assert not Bus(Troubled(OutboundBufferLimitError())).publish("t.x", b"")


async def test_a_pong_that_nobody_waits_for_any_more_is_taken_for_what_it_is() -> None:
    client = _Client()
    given_up, waiting = asyncio.Future[bool](), asyncio.Future[bool]()
    given_up.cancel()
    client._pongs += [given_up, waiting]
    await client._process_pong()
    assert not waiting.done()
    await client._process_pong()
    assert waiting.result() is True
