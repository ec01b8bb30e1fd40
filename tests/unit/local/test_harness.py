"""The parts of the harness that need no server."""

import sys
import time

import pytest

from harness import Process, environment, eventually, eventually_sync


async def test_eventually_gives_the_first_true_value_of_plain_and_async_conditions():
    values = iter([0, None, "there", "later"])

    async def later() -> str | int | None:
        return next(values)

    assert await eventually(later, 1) == "there"
    assert await eventually(lambda: next(values), 1) == "later"


async def test_eventually_fails_at_its_deadline_and_says_what_it_waited_for():
    began = time.monotonic()
    with pytest.raises(AssertionError, match=r"the moon did not hold within 0\.05 s; last value: \[\]"):
        await eventually(list, 0.05, "the moon")
    with pytest.raises(AssertionError, match="last value: 0"):
        eventually_sync(lambda: 0, 0.05)
    assert time.monotonic() - began < 1


def test_settings_of_the_shell_do_not_reach_what_a_test_starts(monkeypatch):
    monkeypatch.setenv("CLOUDMATCH_EDGE_PORT", "1")
    monkeypatch.setenv("OTHER", "2")
    found = environment({"CLOUDMATCH_NATS_URL": "nats://x"})
    assert "CLOUDMATCH_EDGE_PORT" not in found
    assert (found["OTHER"], found["CLOUDMATCH_NATS_URL"]) == ("2", "nats://x")


def test_a_process_that_ends_while_its_line_is_awaited_fails_at_once_with_its_log(tmp_path):
    process = Process("p", [sys.executable, "-c", "print('sorry'); raise SystemExit(3)"], {}, tmp_path)
    with pytest.raises(AssertionError, match="sorry"):
        process.wait_line("listens", 20)
    assert process.wait() == 3


def test_a_process_deaf_to_sigterm_is_killed(tmp_path):
    code = "import signal; signal.signal(15, signal.SIG_IGN); print('up'); signal.pause()"
    process = Process("p", [sys.executable, "-c", code], {}, tmp_path)
    process.wait_line("up")
    assert process.terminate(0.2) is False
    assert process.returncode == -9
