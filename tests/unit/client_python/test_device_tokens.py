"""The Python client's device and its token, against a minimal server in this process."""

import asyncio
import itertools
from collections.abc import Callable

import pytest
from websockets.asyncio.server import Request, Response, ServerConnection
from websockets.datastructures import Headers

import cloudmatch
from harness import eventually
from unit.client_python.test_device import MATCHED, WAITING, WELCOME, Server, device, send, server

UNAUTHORIZED = b'{"error":{"code":"unauthorized","reason":"expired","detail":"`exp` has passed"}}'


def refusing(times: int, seen: list[str]) -> Callable[[ServerConnection, Request], Response | None]:
    def answer(_: ServerConnection, request: Request) -> Response | None:
        seen.append(request.headers["Authorization"])
        return Response(401, "", Headers(), UNAUTHORIZED) if len(seen) <= times else None

    return answer


def numbered() -> Callable[[], str]:
    """Return a function of tokens t1, t2, …"""
    numbers = itertools.count(1)
    return lambda: f"t{next(numbers)}"


async def test_a_function_is_asked_once_more_when_its_token_is_refused() -> None:
    seen: list[str] = []
    async with server(process_request=refusing(1, seen)) as it, device(it.url, token=numbered()) as a:
        await a.matched()
    assert seen == ["Bearer t1", "Bearer t2"]


@pytest.mark.parametrize(("token", "attempts"), [("t", 1), (numbered(), 2)])
async def test_a_token_that_is_refused_again_is_final_and_says_why(token: object, attempts: int) -> None:
    seen: list[str] = []
    async with server(process_request=refusing(9, seen)) as it:
        with pytest.raises(cloudmatch.RefusedError) as refused:
            await device(it.url, token=token).__aenter__()
    error = refused.value
    assert (error.status, error.code, error.reason) == (401, "unauthorized", "expired")
    assert len(seen) == attempts
    assert "Bearer" not in f"{error!r}"


async def test_a_function_that_fails_is_told_and_asked_again() -> None:
    answers = iter([OSError("down"), "good"])

    def ask() -> str:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    async with server() as it:
        a = device(it.url, token=ask)
        events = a.events()
        async with a:
            told = await anext(events)
            assert isinstance(told, cloudmatch.ServerError)
            assert (told.code, told.detail) == ("no_token", "no token: its function raised OSError")
            await a.matched()


async def expires(it: Server, socket: ServerConnection) -> None:
    await send(socket, WELCOME, WAITING, MATCHED, {"type": "token_expires", "in": 60})
    await it.listen(socket)


async def test_another_token_is_sent_on_the_same_connection_when_one_expires() -> None:
    async with server(expires) as it:
        a = device(it.url, token=numbered())
        events = a.events()
        async with a:
            await eventually(lambda: {"type": "token", "token": "t2"} in it.received)
            await a.matched()
        told = [event async for event in events]
    assert cloudmatch.TokenExpires(60) in told
    assert len(it.queries) == 1


async def test_a_token_is_not_logged_by_an_application_that_logs_everything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    async with server(expires) as it, device(it.url, token=lambda: "secret-token"):
        await eventually(lambda: {"type": "token", "token": "secret-token"} in it.received)
    theirs = [each for each in caplog.records if each.name != "websockets.server"]
    assert "secret-token" not in "".join(each.getMessage() for each in theirs)


async def test_a_function_that_fails_then_is_asked_until_it_has_one() -> None:
    asked = 0

    async def ask() -> str:
        nonlocal asked
        asked += 1
        if asked in (2, 3):
            raise OSError("down")
        return f"t{asked}"

    async with server(expires) as it, device(it.url, token=ask):
        await eventually(lambda: {"type": "token", "token": "t4"} in it.received)


async def test_a_device_with_a_text_has_no_other_token() -> None:
    async with server(expires) as it, device(it.url, token="t") as a:  # noqa: S106  # no password
        await a.matched()
        await asyncio.sleep(0)
    assert not [each for each in it.received if each["type"] == "token"]


async def closes(it: Server, socket: ServerConnection) -> None:
    await send(socket, WELCOME, WAITING, MATCHED)
    if len(it.queries) == 1:
        await socket.close(4003, "token expired")
    else:
        await it.listen(socket)


async def test_a_device_whose_token_has_expired_returns_with_another_and_resumes() -> None:
    async with server(closes) as it, device(it.url, token=numbered()) as a:
        await eventually(lambda: len(it.queries) == 2)
        assert it.queries[1]["resume"] == WELCOME["resume"]
        await a.matched()


async def test_without_a_function_it_is_closed_for_good() -> None:
    async with server(closes) as it, device(it.url, token="t") as a:  # noqa: S106  # no password
        with pytest.raises(cloudmatch.ClosedError) as closed:
            await a.receive()
    assert (closed.value.code, len(it.queries)) == (4003, 1)


def test_what_is_no_token_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="token must be a str"):
        device("http://server.example", token=b"bytes")
