"""Tests side by side: how many workers, which file is whose, what is alone, how Ctrl-C ends all.

`make test` runs pytest with ``-n auto``, and pytest-xdist asks here. Most tests wait for processes most of
the time, so two workers share two cores well. Each takes one file after the other: what a module's tests
share is made once, what a session's share once per worker. Files that load the machine on purpose never run
two at a time: one worker takes these first, the other meanwhile what rests on little.
"""

import contextlib
import os
import signal
from typing import Any

import execnet
import pytest
from xdist.scheduler import LoadScopeScheduling

from harness.processes import children

WORKERS = 2
PATIENCE = 60  # s until all that a worker has started has ended

HEAVY = (
    "tests/deploy/test_roll_out.py",
    "tests/e2e/",
    "tests/faults/",
    "tests/integration/test_bench",
    "tests/integration/test_dev_client.py",
    "tests/integration/test_fuzz.py",
    "tests/integration/test_kills.py",
)


def heavy(name: str) -> bool:
    """Tell whether a test, or its file, loads the machine on purpose."""
    return name.startswith(HEAVY)


class Turns(LoadScopeScheduling):
    """Give each worker a file at a time, in order; of those that are heavy never two at a time."""

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
        node.shutdown()  # what is left is for who has taken what is heavy

    def _has_heavy(self, node: Any) -> bool:
        work = self.assigned_work[node]
        return any(heavy(file) and not all(ran.values()) for file, ran in work.items())


class Interruption:
    """Hand Ctrl-C on to the workers, and wait until they have ended what they started.

    They are in process groups of their own, so that a terminal interrupts them once and not twice, and
    pytest-xdist itself would kill them in the middle of it.
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
    """Give the number of workers; none where a person wants to see what tests print."""
    return 0 if config.option.capture == "no" else WORKERS


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Turns:
    """Let tests take turns."""
    return Turns(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what is heavy, for the worker that takes it will be busy for longest."""
    items.sort(key=lambda item: not heavy(item.nodeid))


def pytest_configure(config: pytest.Config) -> None:
    """Let only the session that a person talks to hear Ctrl-C."""
    if hasattr(config, "workerinput"):
        os.setpgid(0, 0)
    else:
        config.pluginmanager.register(Interruption(), "interruption")
