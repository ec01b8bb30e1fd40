"""Tests side by side, as `make test` runs them."""

import os
import signal
from pathlib import Path

from harness import BIN, Process, alive, eventually_sync
from harness.processes import ROOT

# Its process takes a second to end: a teardown that is cut short would leave it behind.
LONG = """
import sys, time
from pathlib import Path
import pytest
from harness import Process

CODE = '''
import signal, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), exit(0)))
print("up")
time.sleep(600)
'''

@pytest.fixture
def process(tmp_path):
    started = Process("p", [sys.executable, "-c", CODE], {}, tmp_path)
    started.wait_line("up")
    yield
    assert started.terminate()
    Path(__file__).with_suffix(".ended").touch()

def test_long(process):
    Path(__file__).with_suffix(".runs").touch()
    time.sleep(600)
"""


def test_ctrl_c_ends_both_workers_in_order_and_leaves_no_process_behind(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["harness.workers"]\n')
    for name in ("one", "two"):
        (tmp_path / f"test_long_{name}.py").write_text(LONG)
        (tmp_path / f"test_next_{name}.py").write_text("def test_next(): pass\n")
    env = {"PYTHONPATH": f"{ROOT}/tests:{ROOT}/deploy/local", "FOLDER": str(tmp_path)}
    run = Process("run", [BIN / "python", "-m", "pytest", "-n", "auto", "-rA"], env, tmp_path)
    try:
        eventually_sync(lambda: len(list(tmp_path.glob("*.runs"))) == 2, 60, "a test on each worker")
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: the whole foreground group gets it
        assert run.wait(60) == 2, run.tail()
        assert len(list(tmp_path.glob("*.ended"))) == 2, run.tail()
        eventually_sync(lambda: not alive(tmp_path), 10, "the end of every process")
    finally:
        for pid in alive(tmp_path):
            os.kill(pid, signal.SIGKILL)
