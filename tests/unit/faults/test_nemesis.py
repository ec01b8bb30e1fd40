"""The schedule of faults: equal for equal seeds, and never more than the stack survives."""

import pytest

from faults.nemesis import (
    CUT,
    CUTTABLE,
    EDGES,
    GAP,
    INITIAL_WORKERS,
    NEEDS_RESUME,
    SLOTS,
    Dialect,
    Kind,
    Step,
    schedule,
    survivable,
)

V1, CLASSIC = Dialect.V1, Dialect.CLASSIC
SEEDS = range(40)
ENDS_WORKER = {Kind.KILL_WORKER, Kind.STOP_WORKER}
NEEDS_WORKER = ENDS_WORKER | {Kind.FREEZE_WORKER, Kind.CUT_WORKER}


def test_equal_seeds_give_equal_schedules() -> None:
    assert schedule(7, 50, V1) == schedule(7, 50, V1)
    assert schedule(7, 50, V1) != schedule(8, 50, V1)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_fault_hits_a_running_target_and_one_worker_always_keeps_running(seed: int) -> None:
    running = set(range(INITIAL_WORKERS))
    for step in schedule(seed, 60, V1):
        touched = {f.target for f in step.faults if f.kind in NEEDS_WORKER}
        assert touched <= running, step
        assert len(touched) == sum(f.kind in NEEDS_WORKER for f in step.faults), "no worker is hit twice"
        assert running - touched, f"{step} leaves no worker"
        for fault in step.faults:
            if fault.kind in ENDS_WORKER:
                running.remove(fault.target)
            elif fault.kind is Kind.START_WORKER:
                assert fault.target not in running
                running.add(fault.target)
            elif fault.kind is Kind.NO_WORKER:
                assert len(step.faults) == 1
                running = set(range(INITIAL_WORKERS))
            elif fault.kind in (Kind.CUT_WORKER, Kind.CUT_EDGE):
                assert fault.target == CUTTABLE
        assert 1 <= len(running) <= SLOTS


@pytest.mark.parametrize("seed", SEEDS)
def test_nats_keeps_its_majority(seed: int) -> None:
    assert all(sum(f.kind.of_nats for f in step.faults) <= 1 for step in schedule(seed, 60, V1))


def test_gaps_and_durations_are_within_bounds() -> None:
    for seed in SEEDS:
        for step in schedule(seed, 30, V1):
            assert GAP[0] <= step.gap <= GAP[1]
            assert all(0 <= fault.seconds <= CUT[V1][1] for fault in step.faults)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_edge_is_hit_twice_at_once(seed: int) -> None:
    for step in schedule(seed, 60, V1):
        edges = [fault.target for fault in step.faults if fault.kind.of_edge]
        assert len(set(edges)) == len(edges), step
        assert set(edges) <= set(range(EDGES))


@pytest.mark.parametrize("seed", SEEDS)
def test_classic_devices_never_lose_their_edge(seed: int) -> None:
    for step in schedule(seed, 60, CLASSIC):
        for fault in step.faults:
            assert fault.kind not in NEEDS_RESUME
            assert fault.kind is not Kind.CUT_EDGE or fault.seconds <= CUT[CLASSIC][1] < 3.5


def test_a_subscriber_to_everything_is_combined_with_another_fault() -> None:
    steps = [s for seed in SEEDS for s in schedule(seed, 60, V1) if s.faults[0].kind is Kind.TRACER]
    assert steps
    assert all(len(step.faults) == 2 for step in steps)


@pytest.mark.parametrize("dialect", Dialect)
def test_a_long_schedule_includes_every_survivable_kind(dialect: Dialect) -> None:
    assert {f.kind for step in schedule(1, 200, dialect) for f in step.faults} == set(survivable(dialect))


def test_a_schedule_limited_to_some_kinds_still_replaces_killed_workers() -> None:
    kinds = {f.kind for step in schedule(1, 50, V1, [Kind.KILL_WORKER]) for f in step.faults}
    assert kinds == {Kind.KILL_WORKER, Kind.START_WORKER}


def test_the_name_of_a_step_does_not_depend_on_the_order_of_its_faults() -> None:
    step = next(s for s in schedule(1, 200, V1) if len(s.faults) == 2)
    assert Step(0, step.faults[::-1]).name == step.name
