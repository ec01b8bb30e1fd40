"""A heartbeat says which version its process runs, and how much of a core it uses."""

import time

from cloudmatch_bus.process.vitals import CpuLoad, version_of


def test_load_is_cpu_time_since_the_last_measurement_as_a_share_of_a_core() -> None:
    used, now = [10.0], [100.0]
    load = CpuLoad(lambda: used[0], lambda: now[0])
    assert load.share == 0
    used[0], now[0] = 10.1, 100.5
    assert load.measure() == load.share == 0.2
    now[0] = 101.0
    assert load.measure() == 0
    used[0], now[0] = 11.1, 101.5
    assert load.measure() == 2.0, "two threads"


def test_two_measurements_at_the_same_time_do_not_divide_by_zero() -> None:
    used, now = [0.0], [0.0]
    load = CpuLoad(lambda: used[0], lambda: now[0])
    used[0], now[0] = 0.3, 1.0
    assert load.measure() == 0.3
    used[0] = 0.4
    assert load.measure() == 0.3
    now[0] = 1.5
    assert load.measure() == 0.2, "nothing is left out"


def test_a_busy_process_has_a_load() -> None:
    load = CpuLoad()
    until = time.process_time() + 0.02
    while time.process_time() < until:
        pass
    assert load.measure() > 0


def test_a_distribution_that_is_not_installed_has_no_version() -> None:
    assert version_of("cloudmatch-bus")
    assert version_of("cloudmatch-of-nowhere") == ""
