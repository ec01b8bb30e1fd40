"""Recent match events are replayed when a worker was lost, and only then."""

from cloudmatch_bus.contract.messages import PairRecord, Tombstone
from cloudmatch_match_engine.core.replay import MIRROR_LAG, REPLAY_DELAY, RETENTION, ReplayLog


def made(match: int) -> PairRecord:
    return PairRecord(app="demo", match=match, device="a", peer="b", at=0)


def ended(match: int) -> Tombstone:
    return Tombstone(app="demo", device="a", edge="e", connection_id=1, match=match, peer="b")


def test_nothing_is_replayed_while_all_workers_are_alive() -> None:
    log = ReplayLog()
    log.record(made(1), 0)
    log.record(ended(1), 10)
    assert not list(log.due(RETENTION))


def test_after_the_loss_of_a_worker_every_recent_event_is_replayed_once() -> None:
    log = ReplayLog()
    log.record(made(1), 0)
    log.record(ended(1), 1000)
    log.schedule(2000)
    assert not list(log.due(2000 + REPLAY_DELAY - 1)), "others may still finish it themselves"
    assert list(log.due(2000 + REPLAY_DELAY)) == [made(1), ended(1)]
    assert not list(log.due(10_000))


def test_an_event_that_the_mirror_shows_only_after_the_loss_is_replayed_too() -> None:
    log = ReplayLog()
    log.schedule(0)
    log.record(made(1), MIRROR_LAG - 1)
    log.record(made(2), MIRROR_LAG)
    assert list(log.due(MIRROR_LAG + REPLAY_DELAY)) == [made(1)]


def test_an_event_older_than_the_retention_is_not_replayed() -> None:
    log = ReplayLog()
    log.record(made(1), 0)
    log.record(made(2), RETENTION)
    log.schedule(RETENTION + 1)
    assert list(log.due(RETENTION + 1 + REPLAY_DELAY)) == [made(2)]


def test_only_events_within_the_retention_are_kept() -> None:
    log = ReplayLog()
    log.record(made(1), 0)
    log.record(made(2), RETENTION)
    assert len(log._events) == 2
    log.record(made(3), RETENTION + 1)
    assert [event for _, event in log._events] == [made(2), made(3)]


def test_an_event_that_failed_is_replayed_again() -> None:
    log = ReplayLog()
    log.retry(ended(1), 0)
    assert list(log.due(REPLAY_DELAY)) == [ended(1)]
    log.retry(ended(1), REPLAY_DELAY)
    assert not list(log.due(REPLAY_DELAY))
    assert list(log.due(2 * REPLAY_DELAY)) == [ended(1)]
