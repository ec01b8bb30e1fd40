"""Peers that run side by side, each idle until it is its turn, and what they are tried with."""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bench import generator
from bench.comparison import Outcome
from bench.peers import Broker, Peer, PeerMissingError, Running
from bench.report import Run
from bench.trials import OUTAGE, Trial

PATIENCE = 60  # s for a broker to be killed by the generator


class Session:
    """One peer, started when it is first needed, and anew after it has failed."""

    def __init__(self, peer: Peer, folder: Path, program: Path) -> None:
        self.peer, self.folder, self.program = peer, folder, program
        self._stack = contextlib.ExitStack()
        self._running: Running | None = None
        self._count = 0

    def start(self, *, redundant: bool = False) -> Running:
        """Give the peer, running; as it runs where its broker may die, if asked to and there is a way."""
        if redundant and self.peer.redundant is not None:
            self.stop()
        if self._running is None:
            run = (self.peer.redundant if redundant else None) or self.peer.run
            self._running = self._stack.enter_context(run(self.folder))
        return self._running

    def stop(self) -> str:
        """End it; give what it complained of."""
        self._running = None
        try:
            self._stack.close()
        except Exception as error:  # noqa: BLE001 # one peer's trouble is told, and is not the others'
            return _first_line(error)
        return ""

    def attempt(self, trial: Trial, repetition: int) -> Outcome:
        """Try; a failure is an outcome, too."""
        load = os.getloadavg()[0]
        try:
            running = self.start(redundant=trial.breaks == "broker")
            return Outcome(trial.name, self.peer.name, repetition, load, self._run(running, trial))
        except Exception as error:  # noqa: BLE001 # the same
            self.stop()
            return Outcome(trial.name, self.peer.name, repetition, load, error=_first_line(error))
        finally:
            if trial.spends:
                self.stop()

    def _run(self, running: Running, trial: Trial) -> Run:
        self._count += 1
        options = ["--dialect", self.peer.dialect, *trial.options]
        pids = {} if trial.breaks else running.pids  # those may end meanwhile
        kills = trial.breaks == "broker"
        if kills:
            options.append(str(running.broker.pid))

        def run() -> Run:
            return generator.run(
                self.program,
                running.ports,
                pids,
                options,
                app=f"{self.peer.name}-{self._count}",
                warmup=trial.warmup,
                seconds=trial.seconds,
            )

        return _reviving(running.broker, run) if kills else run()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _reviving(broker: Broker, run: Callable[[], Run]) -> Run:
    """Run, and bring the broker back `OUTAGE` seconds after it has been killed."""
    failures: list[str] = []
    over = threading.Event()

    def revive() -> None:
        end = time.monotonic() + PATIENCE
        while _lives(broker.pid) and not over.is_set() and time.monotonic() < end:
            time.sleep(0.005)
        if over.wait(OUTAGE):
            return
        try:
            broker.restart()
        except (AssertionError, OSError, PeerMissingError) as error:
            failures.append(str(error))

    thread = threading.Thread(target=revive)
    thread.start()
    try:
        result = run()
    finally:
        over.set()
        thread.join()
    if failures:
        raise PeerMissingError(f"the broker does not come back: {failures[0]}")
    return result


def _lives(pid: int) -> bool:
    """Tell whether a process runs: one that has ended and was not waited for does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
