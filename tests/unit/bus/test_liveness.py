"""Timings of heartbeats: whoever is cut off notices it before others act on it."""

from cloudmatch_bus.contract.liveness import (
    CLAIM_GRACE,
    COUNTED_WITHIN,
    EDGE_DEAD_AFTER,
    EDGE_ISOLATED_AFTER,
    EDGE_PROBED_AFTER,
    HEARTBEAT_INTERVAL,
    STALLED_AFTER,
    WORKER_DEAD_AFTER,
    WORKER_ISOLATED_AFTER,
)


def test_an_edge_notices_that_it_was_cut_off_before_workers_declare_it_dead() -> None:
    assert (
        HEARTBEAT_INTERVAL < STALLED_AFTER < EDGE_ISOLATED_AFTER <= EDGE_DEAD_AFTER - 2 * HEARTBEAT_INTERVAL
    )
    assert EDGE_PROBED_AFTER + HEARTBEAT_INTERVAL < EDGE_DEAD_AFTER


def test_a_worker_notices_that_it_was_cut_off_before_others_declare_it_dead() -> None:
    assert HEARTBEAT_INTERVAL < WORKER_ISOLATED_AFTER < WORKER_DEAD_AFTER - HEARTBEAT_INTERVAL


def test_an_edge_counts_before_the_journal_grants_a_claim_of_the_same() -> None:
    # what it has been silent for, what it waits for, and what a last attempt takes
    assert EDGE_ISOLATED_AFTER + COUNTED_WITHIN + EDGE_ISOLATED_AFTER < CLAIM_GRACE
