from cloudmatch_bus.contract.liveness import (
    BEAT,
    EDGE_DEAD,
    EDGE_SILENT,
    EDGE_UNHEARD,
    STALL,
    WORKER_DEAD,
    WORKER_UNHEARD,
)


def test_an_edge_notices_that_it_was_cut_off_before_workers_declare_it_dead() -> None:
    assert BEAT < STALL < EDGE_UNHEARD <= EDGE_DEAD - 2 * BEAT
    assert EDGE_SILENT + BEAT < EDGE_DEAD


def test_a_worker_notices_that_it_was_cut_off_before_others_declare_it_dead() -> None:
    assert BEAT < WORKER_UNHEARD < WORKER_DEAD - BEAT
