"""The plan of faults: the same for a seed, and never more than the stack can bear."""

import pytest

from faults.plan import CUT, EDGES, FIRST, GAP, RESUMED, SLOTS, WIRED, Dialect, Kind, Step, plan, possible

V1, CLASSIC = Dialect.V1, Dialect.CLASSIC
SEEDS = range(40)
ENDS_WORKER = {Kind.KILL_WORKER, Kind.STOP_WORKER}
NEEDS_WORKER = ENDS_WORKER | {Kind.FREEZE_WORKER, Kind.CUT_WORKER}


def test_a_seed_always_gives_the_same_plan() -> None:
    assert plan(7, 50, V1) == plan(7, 50, V1)
    assert plan(7, 50, V1) != plan(8, 50, V1)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_fault_breaks_something_that_runs_and_one_worker_always_goes_on(seed: int) -> None:
    running = set(range(FIRST))
    for step in plan(seed, 60, V1):
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
                running = set(range(FIRST))
            elif fault.kind in (Kind.CUT_WORKER, Kind.CUT_EDGE):
                assert fault.target == WIRED
        assert 1 <= len(running) <= SLOTS


@pytest.mark.parametrize("seed", SEEDS)
def test_nats_keeps_its_majority(seed: int) -> None:
    assert all(sum(f.kind.of_nats for f in step.faults) <= 1 for step in plan(seed, 60, V1))


def test_gaps_and_durations_are_within_bounds() -> None:
    for seed in SEEDS:
        for step in plan(seed, 30, V1):
            assert GAP[0] <= step.gap <= GAP[1]
            assert all(0 <= fault.seconds <= CUT[V1][1] for fault in step.faults)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_edge_is_hit_twice_at_once(seed: int) -> None:
    for step in plan(seed, 60, V1):
        edges = [fault.target for fault in step.faults if fault.kind.of_edge]
        assert len(set(edges)) == len(edges), step
        assert set(edges) <= set(range(EDGES))


@pytest.mark.parametrize("seed", SEEDS)
def test_classic_devices_lose_no_edge(seed: int) -> None:
    for step in plan(seed, 60, CLASSIC):
        for fault in step.faults:
            assert fault.kind not in RESUMED
            assert fault.kind is not Kind.CUT_EDGE or fault.seconds <= CUT[CLASSIC][1] < 3.5


def test_a_subscriber_to_everything_listens_while_something_breaks() -> None:
    steps = [s for seed in SEEDS for s in plan(seed, 60, V1) if s.faults[0].kind is Kind.TRACER]
    assert steps
    assert all(len(step.faults) == 2 for step in steps)


@pytest.mark.parametrize("dialect", Dialect)
def test_every_possible_kind_comes_in_a_long_plan(dialect: Dialect) -> None:
    assert {f.kind for step in plan(1, 200, dialect) for f in step.faults} == set(possible(dialect))


def test_a_plan_may_be_limited_to_some_kinds_and_replaces_the_workers_that_these_kill() -> None:
    kinds = {f.kind for step in plan(1, 50, V1, [Kind.KILL_WORKER]) for f in step.faults}
    assert kinds == {Kind.KILL_WORKER, Kind.START_WORKER}


def test_a_step_is_called_by_its_faults_in_whatever_order() -> None:
    step = next(s for s in plan(1, 200, V1) if len(s.faults) == 2)
    assert Step(0, step.faults[::-1]).name == step.name
