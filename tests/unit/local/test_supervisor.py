"""What `make up` prints of its processes' logs, and how it stops them: here with processes of the shell."""

import datetime
import io
import os
import subprocess
import sys
from pathlib import Path

from honcho.manager import SYSTEM_PRINTER_NAME
from honcho.printer import Message

import cloudmatch_local
from cloudmatch_local.supervisor import LogPrinter


def line(name: str, text: str) -> Message:
    return Message("line", text, datetime.datetime(2026, 1, 1), name, None)  # noqa: DTZ001 # honcho's are naive


def honcho(text: str) -> Message:
    return line(SYSTEM_PRINTER_NAME, text)


def test_lines_of_processes_are_printed_and_honchos_own_are_not(capsys):
    printer = LogPrinter()
    for each in (honcho("edge.1 started (pid=7)\n"), line("edge.1", "edge listening\n")):
        printer.write(each)
    printed = capsys.readouterr().out
    assert printed.endswith("edge.1 | edge listening\n")
    assert "started" not in printed


def test_the_first_process_that_ends_before_a_signal_is_remembered(capsys):
    printer = LogPrinter()
    for text in ("edge.2 stopped (rc=-9)\n", "journal.1 stopped (rc=0)\n"):
        printer.write(honcho(text))
    assert printer.first_exit == "edge.2 (exit -9)"
    assert capsys.readouterr().out == ""


def test_a_process_that_ends_after_a_signal_is_no_surprise(capsys):
    printer = LogPrinter()
    for text in ("SIGINT received\n", "edge.1 stopped (rc=0)\n"):
        printer.write(honcho(text))
    assert printer.first_exit == ""
    assert capsys.readouterr().out.endswith("system | stopping\n")


def test_a_closed_stdout_does_not_raise(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    LogPrinter().write(line("edge.1", "hello\n"))


PROGRAM = """
from pathlib import Path
from cloudmatch_local.supervisor import LogPrinter, Supervisor

WAIT = "while :; do sleep 0.05; done"
printer = LogPrinter()
supervisor = Supervisor(
    printer,
    ["service"],
    on_started=lambda: print("all started", flush=True),
    blocked=lambda name: "port taken" if name == "taken.1" and Path("lives").stat().st_size else None,
    last_words=lambda name: [f"log of {name}"],
)
"""


def supervised(folder: Path, *processes: tuple[str, str]) -> list[str]:
    """Run a supervisor of `(name, command)` pairs; return what it prints, without times and names."""
    package = str(Path(cloudmatch_local.__file__).parents[1])
    lines = [f"supervisor.add_process({name!r}, f{command!r})" for name, command in processes]
    program = "\n".join([PROGRAM, *lines, "supervisor.loop()", "print(printer.first_exit)"])
    command = [sys.executable, "-c", program]  # honcho forks, which a process with threads had better not
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": package},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = [text.rpartition("| ")[2] for text in done.stdout.splitlines()]
    return [text for text in found if text != "Terminated"]


SERVER = ("server.1", "trap 'echo server ends; exit 0' TERM; {WAIT}")
SERVICE = ("service.1", "trap 'sleep 0.3; echo service ends; exit 0' TERM; {WAIT}")


def test_services_end_before_the_servers_they_use_once_any_process_cannot_run(tmp_path):
    assert supervised(tmp_path, SERVER, SERVICE, ("brief.1", "sleep 0.3; exit 2")) == [
        *("all started", "service ends", "server ends", "brief.1 (exit 2)"),
    ]


def test_a_process_that_ends_is_started_again_and_still_hears_signals(tmp_path):
    count = "echo >>lives; [ $(wc -l <lives) -lt 3 ] && exit 3"
    thrice = SERVER[1].replace("{WAIT}", f"{count}; {{WAIT}}")  # it hears signals before it is counted
    stopper = "until [ $(wc -l <lives) = 3 ]; do sleep 0.05; done; exit 2"
    said = supervised(tmp_path, ("server.1", thrice), ("stopper.1", "touch lives; " + stopper))
    assert said == [
        "all started",
        "ended unexpectedly (exit 3); starts again in 0.5 s",
        "log of server.1",
        "ended unexpectedly (exit 3); starts again in 1 s",
        "log of server.1",
        "server ends",
        "stopper.1 (exit 2)",
    ]


def test_a_process_whose_port_another_has_taken_meanwhile_stops_everything(tmp_path):
    said = supervised(tmp_path, SERVER, ("taken.1", "sleep 0.3; echo >>lives; exit 1"))
    assert said == [
        "all started",
        "ended unexpectedly (exit 1); starts again in 0.5 s",
        "log of taken.1",
        "port taken",
        "server ends",
        "taken.1 (exit 2)",
    ]


def test_everything_ends_at_once_while_a_process_waits_to_be_started_again(tmp_path):
    said = supervised(tmp_path, ("brief.1", "exit 1"), ("stopper.1", "sleep 0.3; exit 2"))
    assert said[-1] == "stopper.1 (exit 2)"
    assert said.count("log of brief.1") == 1
