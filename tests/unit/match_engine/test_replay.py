"""Recent match events are replayed when a worker was lost, and only then."""

from cloudmatch_bus.contract.messages import PairRecord, Tombstone
from cloudmatch_match_engine.core.replay import MIRROR_LAG, REPLAY_DELAY, RETENTION, ReplayLog

SOON = 0.001


def made(match: int) -> PairRecord:
    return PairRecord(app="demo", match=match, device="a", peer="b", at=0)


def ended(match: int) -> Tombstone:
    return Tombstone(app="demo", device="a", edge="e", connection_id=1, match=match, peer="b")


def test_nothing_is_replayed_while_all_workers_are_alive() -> None:
    log = ReplayLog()
    log.record(made(1), 2, 0.0)
    log.record(ended(1), 3, 0.01)
    assert not list(log.due(RETENTION))


def test_after_the_loss_of_a_worker_every_recent_event_is_replayed_once() -> None:
    log = ReplayLog()
    log.record(made(1), 2, 0.0)
    log.record(ended(1), 3, 1.0)
    log.schedule(2.0)
    assert not list(log.due(2.0 + REPLAY_DELAY - SOON)), "others may still finish it themselves"
    assert list(log.due(2.0 + REPLAY_DELAY)) == [made(1), ended(1)]
    assert not list(log.due(10.0))


def test_an_event_that_the_mirror_shows_only_after_the_loss_is_replayed_too() -> None:
    log = ReplayLog()
    log.schedule(0.0)
    log.record(made(1), 2, MIRROR_LAG - SOON)
    log.record(made(2), 4, MIRROR_LAG)
    assert list(log.due(MIRROR_LAG + REPLAY_DELAY)) == [made(1)]


def test_an_event_older_than_the_retention_is_not_replayed() -> None:
    log = ReplayLog()
    log.record(made(1), 2, 0.0)
    log.record(made(2), 4, RETENTION)
    log.schedule(RETENTION + SOON)
    assert list(log.due(RETENTION + SOON + REPLAY_DELAY)) == [made(2)]


def test_what_was_old_when_the_worker_started_is_not_replayed() -> None:
    log = ReplayLog()
    log.schedule(1000.0)
    log.record(made(1), 2, 1000.0, age=RETENTION + SOON)
    log.record(made(2), 4, 1000.0, age=RETENTION - SOON)
    log.schedule(1000.0)
    assert list(log.due(1000.0 + REPLAY_DELAY)) == [made(2), made(2)]


def test_only_events_within_the_retention_are_kept() -> None:
    log = ReplayLog()
    log.record(made(1), 2, 0.0)
    log.record(made(2), 4, RETENTION)
    assert len(log._events) == 2
    log.record(made(3), 6, RETENTION + SOON)
    assert [each.event for each in log._events] == [made(2), made(3)]


def test_a_match_is_recent_until_the_mirror_has_shown_it_for_the_retention() -> None:
    log = ReplayLog()
    assert log.is_recent(7, 0.0), "the mirror does not show it yet"
    log.record(made(7), 8, 0.0)
    assert log.is_recent(7, RETENTION)
    assert not log.is_recent(7, RETENTION + SOON)
    assert log.is_recent(9, RETENTION + SOON)


def test_a_match_that_was_old_when_the_worker_started_is_not_recent() -> None:
    log = ReplayLog()
    log.record(made(5), 6, 0.0, age=RETENTION + SOON)
    log.record(made(7), 8, 0.0, age=RETENTION - SOON)
    assert not log.is_recent(5, 0.0)
    assert log.is_recent(7, 0.0)


def test_matches_of_a_bucket_that_starts_over_with_smaller_numbers_are_recent() -> None:
    log = ReplayLog()
    log.record(made(1000), 1001, 0.0, age=RETENTION + SOON)
    log.record(made(7), 8, 1.0)
    assert log.is_recent(9, 2.0)


def test_an_event_that_failed_is_replayed_again() -> None:
    log = ReplayLog()
    log.retry(ended(1), 0.0)
    assert list(log.due(REPLAY_DELAY)) == [ended(1)]
    log.retry(ended(1), REPLAY_DELAY)
    assert not list(log.due(REPLAY_DELAY))
    assert list(log.due(2 * REPLAY_DELAY)) == [ended(1)]
