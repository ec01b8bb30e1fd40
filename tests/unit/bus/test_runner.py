"""Running a service: settings, logging, and work that ends on `stop`."""

import asyncio
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process.runner import Environment, exit_on_settings_error, until_stopped
from cloudmatch_bus.process.settings import CommonSettings, SettingsError


async def test_work_that_ends_before_the_stop_returns_its_result() -> None:
    async def work() -> str:
        return "done"

    assert await until_stopped(asyncio.Event(), work()) == "done"


async def test_a_stop_cancels_the_work_and_returns_none() -> None:
    stop, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        stop.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    assert await until_stopped(stop, work()) is None
    await asyncio.wait_for(cancelled.wait(), 1)


async def test_an_exception_of_the_work_is_raised() -> None:
    async def work() -> None:
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        await until_stopped(asyncio.Event(), work())


async def test_work_that_is_done_when_the_stop_comes_still_returns_its_result() -> None:
    stop = asyncio.Event()

    async def work() -> str:
        stop.set()
        return "done"

    assert await until_stopped(stop, work()) == "done"


async def test_no_task_is_left_running() -> None:
    before = asyncio.all_tasks()
    stop = asyncio.Event()
    stop.set()
    await until_stopped(stop, asyncio.sleep(60))
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


def test_an_environment_holds_the_required_groups_and_names_unknown_variables() -> None:
    environ = {"CLOUDMATCH_NATS_PORT": "5", "CLOUDMATCH_NATS_PROT": "6", "CLOUDMATCH_LOG_LEVEL": "DEBUG"}
    environment = Environment(NatsSettings, environ=environ)
    assert environment[NatsSettings].servers == ["nats://127.0.0.1:5"]
    assert environment[CommonSettings].log_level == "DEBUG"
    assert environment.unknown == ["CLOUDMATCH_NATS_PROT"]


def test_an_environment_with_an_invalid_value_is_refused() -> None:
    with pytest.raises(SettingsError, match="CLOUDMATCH_LOG_LEVEL='LOUD' cannot be used"):
        Environment(environ={"CLOUDMATCH_LOG_LEVEL": "LOUD"})


def test_a_settings_error_exits_with_status_2_and_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, exit_on_settings_error():
        raise SettingsError("CLOUDMATCH_X='y' cannot be used")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "CLOUDMATCH_X='y' cannot be used\n"


def test_files_of_a_process_are_its_users_alone(tmp_path: Path) -> None:
    script = """
        import os
        from cloudmatch_bus.process.runner import setup
        setup()
        open("made", "w").close()
        os.mkdir("in")
    """
    subprocess.run([sys.executable, "-c", dedent(script)], check=True, cwd=tmp_path)
    assert {file.name: oct(file.stat().st_mode & 0o777) for file in tmp_path.iterdir()} == {
        "made": "0o600",
        "in": "0o700",
    }


def test_an_event_of_a_process_is_one_line(tmp_path: Path) -> None:
    script = """
        import logging
        from cloudmatch_bus.process.runner import setup
        setup()
        device = "a\\nERROR edge: \\x1b[2J" + 64 * "\\U0001f50a"
        for _ in range(100):
            logging.getLogger("edge").warning("device %s left", device)
    """
    ran = subprocess.run([sys.executable, "-c", dedent(script)], check=True, capture_output=True)
    lines = ran.stdout.decode().splitlines()
    assert lines[0] == r"WARNING edge: device a\nERROR edge: \x1b[2J" + 64 * "\U0001f50a" + " left"
    assert len(lines) == 20
