"""What `make up` prints of its processes' logs, and how it stops them: here with processes of the shell."""

import datetime
import io
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
from cloudmatch_local.supervisor import LogPrinter, Supervisor

WAIT = "while :; do sleep 0.05; done"
printer = LogPrinter()
supervisor = Supervisor(printer, ["service"], lambda: print("all started", flush=True))
supervisor.add_process("server.1", f"trap 'echo server ends; exit 0' TERM; {WAIT}")
supervisor.add_process("service.1", f"trap 'sleep 0.3; echo service ends; exit 0' TERM; {WAIT}")
supervisor.add_process("brief.1", "sleep 0.3; exit 3")
supervisor.loop()
print(printer.first_exit)
"""


def test_services_end_before_the_servers_they_use_once_any_process_ends():
    command = [sys.executable, "-c", PROGRAM]  # honcho forks, which a process with threads had better not
    folder = Path(cloudmatch_local.__file__).parents[1]
    output = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    lines = [text.rpartition("| ")[2] for text in output.splitlines()]
    assert [text for text in lines if text != "Terminated"] == [
        *("all started", "service ends", "server ends", "brief.1 (exit 3)"),
    ]
