"""Tests side by side: how many workers, which runs which file, how Ctrl-C ends them all.

`make test` runs pytest with ``-n auto``, for which pytest-xdist calls these hooks. Tests wait for processes
most of the time, so three workers share two cores well. Each runs one file after the other: fixtures of a
module are made once, those of a session once per worker. Files that load the machine on purpose never run
two at a time: one worker runs them first, the others the rest.
"""

import contextlib
import os
import signal
from typing import Any

import execnet
import pytest
from xdist.scheduler import LoadScopeScheduling

from harness.processes import children

WORKERS = 3
PATIENCE = 60  # s for a worker to end all its processes

HEAVY = (
    "tests/deploy/test_roll_out.py",
    "tests/e2e/",
    "tests/faults/",
    "tests/integration/test_bench",
    "tests/integration/test_connection_flood.py",
    "tests/integration/test_counting.py",
    "tests/integration/test_floods.py",
    "tests/integration/test_full_size.py",
    "tests/integration/test_fuzz.py",
    "tests/integration/test_kills.py",
)


def heavy(name: str) -> bool:
    """Whether a test, or its file, loads the machine on purpose."""
    return name.startswith(HEAVY)


class FileScheduling(LoadScopeScheduling):
    """Give each worker a file at a time, in order; heavy ones never two at a time."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("::")[0]

    def _assign_work_unit(self, node: Any) -> None:
        others = [each for each in self.nodes if each is not node]
        taken = any(self._has_heavy(each) for each in others)
        for file in self.workqueue:
            if not (taken and heavy(file)):
                self.workqueue.move_to_end(file, last=False)
                super()._assign_work_unit(node)
                return
        node.shutdown()  # the rest is for the worker with the heavy file

    def _has_heavy(self, node: Any) -> bool:
        work = self.assigned_work[node]
        return any(heavy(file) and not all(ran.values()) for file, ran in work.items())


class Interruption:
    """Forward Ctrl-C to the workers, and wait until they have ended what they started.

    They are in process groups of their own, so that a terminal interrupts them once and not twice;
    pytest-xdist itself would kill them during their teardown.
    """

    def __init__(self) -> None:
        self._nodes: list[Any] = []

    def pytest_testnodeready(self, node: Any) -> None:
        self._nodes.append(node)

    def pytest_testnodedown(self, node: Any) -> None:
        if node in self._nodes:
            self._nodes.remove(node)

    def pytest_keyboard_interrupt(self) -> None:
        for pid in children(os.getpid()) if self._nodes else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        for node in self._nodes:
            with contextlib.suppress(EOFError, execnet.RemoteError, execnet.TimeoutError):
                node.channel.waitclose(PATIENCE)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The number of workers; none with ``-s``, which shows what tests print."""
    return 0 if config.option.capture == "no" else WORKERS


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileScheduling:
    """Schedule files, not tests."""
    return FileScheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put heavy files first: their worker is busy the longest."""
    items.sort(key=lambda item: not heavy(item.nodeid))


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C interrupt only the session at the terminal."""
    if hasattr(config, "workerinput"):
        os.setpgid(0, 0)
    else:
        config.pluginmanager.register(Interruption(), "interruption")
