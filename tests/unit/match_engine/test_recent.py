"""What happened a short while ago is told again when a worker has gone, and only then."""

from cloudmatch_bus.contract.messages import PairRecord, Tombstone
from cloudmatch_match_engine.core.replay import AGAIN, LATE, REMEMBERED, Recent


def made(match: int) -> PairRecord:
    return PairRecord(app="demo", match=match, device="a", peer="b", at=0)


def ended(match: int) -> Tombstone:
    return Tombstone(app="demo", device="a", edge="e", connection_id=1, match=match, peer="b")


def test_nothing_is_told_again_while_all_live() -> None:
    recent = Recent()
    recent.saw(made(1), 0)
    recent.saw(ended(1), 10)
    assert not list(recent.due(REMEMBERED))


def test_when_a_worker_has_gone_all_that_is_remembered_is_told_again_once() -> None:
    recent = Recent()
    recent.saw(made(1), 0)
    recent.saw(ended(1), 1000)
    recent.doubt(2000)
    assert not list(recent.due(2000 + AGAIN - 1)), "others may be about to do it themselves"
    assert list(recent.due(2000 + AGAIN)) == [made(1), ended(1)]
    assert not list(recent.due(10_000))


def test_what_is_seen_only_after_the_worker_has_gone_is_told_again_too() -> None:
    recent = Recent()
    recent.doubt(0)
    recent.saw(made(1), LATE - 1)
    recent.saw(made(2), LATE)
    assert list(recent.due(LATE + AGAIN)) == [made(1)]


def test_what_is_too_long_ago_is_forgotten() -> None:
    recent = Recent()
    recent.saw(made(1), 0)
    recent.saw(made(2), REMEMBERED)
    recent.doubt(REMEMBERED + 1)
    assert list(recent.due(REMEMBERED + 1 + AGAIN)) == [made(2)]


def test_what_could_not_be_told_comes_again() -> None:
    recent = Recent()
    recent.unfinished(ended(1), 0)
    assert list(recent.due(AGAIN)) == [ended(1)]
    recent.unfinished(ended(1), AGAIN)
    assert not list(recent.due(AGAIN))
    assert list(recent.due(2 * AGAIN)) == [ended(1)]
