"""The connection to NATS when the client is in trouble."""

import asyncio

import pytest
from nats.aio.client import Client
from nats.errors import OutboundBufferLimitError

from cloudmatch_bus.client.connection import LOGGED_VIOLATIONS, Bus, _Client, _ErrorLog, no_responders


class FailingClient(Client):
    """A client whose `publish` raises an error."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def publish(self, *_: object, **__: object) -> None:
        raise self.error


def test_a_message_is_buffered_while_the_client_has_yet_to_notice_that_its_socket_is_closed() -> None:
    assert Bus(FailingClient(RuntimeError("the handler is closed"))).publish("t.x", b"")


def test_a_message_is_refused_when_the_buffer_is_full() -> None:
    assert not Bus(FailingClient(OutboundBufferLimitError())).publish("t.x", b"")


async def test_a_pong_whose_waiter_timed_out_is_ignored() -> None:
    client = _Client()
    given_up, waiting = asyncio.Future[bool](), asyncio.Future[bool]()
    given_up.cancel()
    client._pongs += [given_up, waiting]
    await client._process_pong()
    assert not waiting.done()
    await client._process_pong()
    assert waiting.result() is True


async def test_each_permissions_violation_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    errors = _ErrorLog(["nats://a:1"])
    for number in (0, 0, *range(LOGGED_VIOLATIONS + 1)):
        await errors.on_error(Exception(f"nats: permissions violation for publish to {number}"))
    assert len(caplog.records) == LOGGED_VIOLATIONS
    assert caplog.messages[0] == "permission denied by NATS: nats: permissions violation for publish to 0"


async def test_an_error_that_repeats_is_logged_once_until_the_next_reconnection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors = _ErrorLog(["nats://a:1", "nats://b:2"])
    for _ in range(3):
        await errors.on_error(OSError("refused"))
    assert caplog.messages == ["NATS at nats://a:1, nats://b:2: OSError: refused"]
    errors.reset()
    await errors.on_error(OSError("refused"))
    assert len(caplog.messages) == 2


def test_only_the_status_503_tells_that_there_are_no_responders() -> None:
    assert no_responders({"Status": "503"})
    assert not no_responders({"Status": "100"})
    assert not no_responders(None)
