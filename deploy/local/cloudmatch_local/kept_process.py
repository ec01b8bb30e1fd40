"""A process of `up` that is started again when it ends. On top of honcho's, whose pipe and events it uses."""

import signal
import time
from collections.abc import Callable, Iterable
from multiprocessing import Queue
from multiprocessing.synchronize import Event
from typing import Any

from honcho.printer import Message
from honcho.process import Process

WRONG_SETTING = 2  # the exit code of a service whose setting is wrong or whose port is taken
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # s
STEADY = 60.0  # s of a life after which the first pause applies again


class Pauses:
    """How long to wait before a process is started again: twice as long after each short life."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE

    def after(self, life: float) -> float:
        """Return the pause after a life, both in s."""
        pause = FIRST_PAUSE if life >= STEADY else self._next
        self._next = min(2 * pause, LONGEST_PAUSE)
        return pause


class KeptProcess(Process):  # type: ignore[misc]  # honcho is untyped
    """A process that is started again whenever it ends, until `stopping` is set.

    Only what would fail again ends it for good, and with it all others: a wrong setting, or a taken port.

    Args:
        arguments: honcho's: ``cmd``, ``name``, ``env`` and others.
        stopping: set by the parent before it ends processes.
        blocked: returns why a process of this name cannot start now, or None.
        last_words: returns the last lines of the log of a process that writes it to a file.
    """

    def __init__(
        self,
        *arguments: Any,
        stopping: Event,
        blocked: Callable[[str], str | None],
        last_words: Callable[[str], Iterable[str]],
        **named: Any,
    ) -> None:
        super().__init__(*arguments, **named)
        self._stopping = stopping
        self._blocked = blocked
        self._last_words = last_words

    def run(self, events: "Queue[Message] | None" = None, ignore_signals: bool = False) -> None:
        """Run until it is over; report its output, each start, and the last end to `events`."""
        self._events = events
        if ignore_signals:  # by a handler, which the child does not inherit
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: None)
        pauses = Pauses()
        while True:
            started = time.monotonic()
            code = self._live()
            if self._stopping.is_set() or code == WRONG_SETTING:
                break
            pause = pauses.after(time.monotonic() - started)
            self._say(f"ended unexpectedly (exit {code}); starts again in {pause:g} s")
            for line in self._last_words(self.name):
                self._say(line)
            if self._stopping.wait(pause):
                break
            if reason := self._blocked(self.name):
                self._say(reason)
                code = WRONG_SETTING
                break
        self._send_message({"returncode": code}, type="stop")

    def _live(self) -> int:
        """Start it and pass on what it prints; return its exit code, negative for a signal."""
        child = self._child_ctor(self.cmd, env=self.env, cwd=self.cwd)
        self._send_message({"pid": child.pid}, type="start")
        with child.stdout:
            for line in child.stdout:
                self._send_message(line)
        return int(child.wait())

    def _say(self, line: str) -> None:
        self._send_message(f"{line}\n")
