"""Wall clocks that tests set wrong."""

import sys

from harness import Process, eventually_sync

DAY = 86_400.0
SHOW = """
import time
before = time.monotonic()
while True:
    print(int(time.time()), time.monotonic() - before < 60, flush=True)
    time.sleep(0.02)
"""


def test_a_process_has_its_own_wall_clock_which_steps_while_it_runs_and_no_other_clock_does(
    stepped_clock, tmp_path
):
    true, wrong = stepped_clock(), stepped_clock(-600)
    processes = [
        Process(name, [sys.executable, "-c", SHOW], clock.settings, tmp_path)
        for name, clock in (("true", true), ("wrong", wrong))
    ]

    def ahead() -> float:
        here, there = (process.log.splitlines()[-2].split() for process in processes)
        assert here[1] == there[1] == "True"
        return int(there[0]) - int(here[0])

    try:
        for process in processes:
            process.wait_line(r"\d+ True\n\d+")
        assert abs(ahead() + 600) <= 2
        wrong.step(2 * DAY)
        eventually_sync(lambda: abs(ahead() - 2 * DAY) <= 2, 10, "the step")
        wrong.step(0)
        eventually_sync(lambda: abs(ahead()) <= 2, 10, "the step back")
    finally:
        for process in processes:
            process.kill()
