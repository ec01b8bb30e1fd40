"""Processes that tests start: their settings, their log, their end."""

import sys

import pytest

from harness import Process, environment, free_port


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


def test_a_process_that_ignores_sigterm_is_killed(tmp_path):
    code = "import signal; signal.signal(15, signal.SIG_IGN); print('up'); signal.pause()"
    process = Process("p", [sys.executable, "-c", code], {}, tmp_path)
    process.wait_line("up")
    assert process.terminate(0.2) is False
    assert process.returncode == -9


def test_no_port_is_given_twice():
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == 200
