"""Work goes on until its process is told to stop."""

import asyncio

import pytest

from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process.runner import Environment, until_stopped
from cloudmatch_bus.process.settings import CommonSettings, SettingsError


async def test_work_that_ends_before_the_stop_gives_its_result() -> None:
    async def work() -> str:
        return "done"

    assert await until_stopped(asyncio.Event(), work()) == "done"


async def test_a_stop_cancels_the_work_and_gives_none() -> None:
    stop, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        stop.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    assert await until_stopped(stop, work()) is None
    await asyncio.wait_for(cancelled.wait(), 1)


async def test_what_the_work_raises_is_raised() -> None:
    async def work() -> None:
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        await until_stopped(asyncio.Event(), work())


async def test_work_that_is_done_when_the_stop_comes_still_gives_its_result() -> None:
    stop = asyncio.Event()

    async def work() -> str:
        stop.set()
        return "done"

    assert await until_stopped(stop, work()) == "done"


async def test_nothing_is_left_running() -> None:
    before = asyncio.all_tasks()
    stop = asyncio.Event()
    stop.set()
    await until_stopped(stop, asyncio.sleep(60))
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


def test_an_environment_holds_the_groups_asked_for_and_names_what_is_unknown() -> None:
    environ = {"CLOUDMATCH_NATS_PORT": "5", "CLOUDMATCH_NATS_PROT": "6", "CLOUDMATCH_LOG_LEVEL": "DEBUG"}
    environment = Environment(NatsSettings, environ=environ)
    assert environment[NatsSettings].servers == ["nats://127.0.0.1:5"]
    assert environment[CommonSettings].log_level == "DEBUG"
    assert environment.unknown == ["CLOUDMATCH_NATS_PROT"]


def test_an_environment_with_a_wrong_value_is_refused() -> None:
    with pytest.raises(SettingsError, match="CLOUDMATCH_LOG_LEVEL='LOUD' cannot be used"):
        Environment(environ={"CLOUDMATCH_LOG_LEVEL": "LOUD"})
