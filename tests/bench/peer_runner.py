"""Run the trials of one peer, and restart it after a failure."""

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


class PeerRunner:
    """One peer, started on demand and restarted after a failure."""

    def __init__(self, peer: Peer, folder: Path, program: Path) -> None:
        self.peer, self.folder, self.program = peer, folder, program
        self._stack = contextlib.ExitStack()
        self._running: Running | None = None
        self._count = 0

    def start(self, *, redundant: bool = False) -> Running:
        """Start the peer unless it is running; `redundant`: with several brokers, if it can have them."""
        if redundant and self.peer.redundant is not None:
            self.stop()
        if self._running is None:
            run = (self.peer.redundant if redundant else None) or self.peer.run
            self._running = self._stack.enter_context(run(self.folder))
        return self._running

    def stop(self) -> str:
        """Stop the peer; return the error it ended with, or an empty string."""
        self._running = None
        try:
            self._stack.close()
        except Exception as error:  # noqa: BLE001 # one peer's failure is reported and does not stop the others
            return _first_line(error)
        return ""

    def attempt(self, trial: Trial, repetition: int) -> Outcome:
        """Run a trial once; a failure is an outcome, too."""
        load = os.getloadavg()[0]
        try:
            running = self.start(redundant=trial.fault == "broker")
            return Outcome(trial.name, self.peer.name, repetition, load, self._run(running, trial))
        except Exception as error:  # noqa: BLE001 # the same
            self.stop()
            return Outcome(trial.name, self.peer.name, repetition, load, error=_first_line(error))
        finally:
            if trial.restarts_peer:
                self.stop()

    def _run(self, running: Running, trial: Trial) -> Run:
        self._count += 1
        options = ["--dialect", self.peer.dialect, *trial.options]
        pids = {} if trial.fault else running.pids  # a process that ends cannot be measured
        kills = trial.fault == "broker"
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

        return _restarting_broker(running.broker, run) if kills else run()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _restarting_broker(broker: Broker, run: Callable[[], Run]) -> Run:
    """Call `run`; meanwhile restart the broker `OUTAGE` seconds after it was killed."""
    failures: list[str] = []
    over = threading.Event()

    def restart() -> None:
        end = time.monotonic() + PATIENCE
        while _is_running(broker.pid) and not over.is_set() and time.monotonic() < end:
            time.sleep(0.005)
        if over.wait(OUTAGE):
            return
        try:
            broker.restart()
        except (AssertionError, OSError, PeerMissingError) as error:
            failures.append(str(error))

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        result = run()
    finally:
        over.set()
        thread.join()
    if failures:
        raise PeerMissingError(f"the broker did not restart: {failures[0]}")
    return result


def _is_running(pid: int) -> bool:
    """Whether a process is running; a zombie is not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
