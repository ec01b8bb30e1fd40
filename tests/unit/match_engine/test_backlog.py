"""A worker carries out few requests at a time: the newest, those still awaited, and newcomers first."""

import pytest

from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    AnyRequest,
    DeviceGone,
    LeaveMatch,
    LeavePool,
    SeekPartner,
)
from cloudmatch_match_engine.core import backlog
from cloudmatch_match_engine.core.backlog import (
    DEPARTURES,
    IN_PROGRESS,
    OF_GROUP_IN_PROGRESS,
    Backlog,
    Pending,
)


def seek(device: str, connection_id: int = 1, edge: str = "e", app: str = "demo") -> SeekPartner:
    return SeekPartner(app=app, device=device, edge=edge, connection_id=connection_id, lat=0, lon=0)


def leave(device: str, edge: str = "e") -> LeavePool:
    return LeavePool(app="demo", device=device, edge=edge, connection_id=1)


def unmatch(device: str, match: int) -> LeaveMatch:
    return LeaveMatch(app="demo", device=device, edge="e", connection_id=1, match=match)


class Desk:
    """A backlog, and what it has answered."""

    def __init__(self) -> None:
        self.backlog = Backlog()
        self.answers: list[tuple[str, AnyAnswer | None]] = []
        self.now = 0.0

    def add(self, *requests: AnyRequest, patience: float = 2.0, where: str = "") -> None:
        for request in requests:

            def answered(answer: AnyAnswer | None, to: str = where or request.device) -> None:
                self.answers.append((to, answer))

            self.backlog.add(request, self.now, patience, answered)

    def take(self) -> list[Pending]:
        taken = []
        while (pending := self.backlog.take(self.now)) is not None:
            taken.append(pending)
        return taken


def devices(taken: list[Pending]) -> list[str]:
    return [pending.request.device for pending in taken]


def test_a_bounded_number_of_requests_is_in_progress_and_all_are_carried_out_in_turn() -> None:
    desk = Desk()
    names = [f"d{number}" for number in range(1000)]
    desk.add(*map(seek, names))
    assert len(desk.backlog) == 1000
    done = []
    while taken := desk.take():
        assert len(taken) == min(OF_GROUP_IN_PROGRESS, 1000 - len(done))
        for pending in taken:
            desk.backlog.done(pending)
        done += devices(taken)
    assert done == names
    assert len(desk.backlog) == 0


def test_a_repeated_request_that_waits_takes_the_place_of_the_earlier_one() -> None:
    desk = Desk()
    desk.add(seek("a"), where="first reply address")
    desk.add(seek("b"))
    desk.add(seek("a"), where="last reply address")
    assert desk.answers == [("first reply address", None)]
    first, _ = desk.take()
    first.answered(DeviceGone(connection_id=1))
    assert desk.answers[1:] == [("last reply address", DeviceGone(connection_id=1))]


def test_other_requests_of_a_device_are_not_taken_for_a_repetition() -> None:
    desk = Desk()
    desk.add(seek("a", 1), seek("a", 2), leave("a"), unmatch("a", 7), unmatch("a", 8))
    assert len(desk.take()) == 5
    assert desk.answers == []


def test_what_nobody_waits_for_any_more_is_dropped() -> None:
    desk = Desk()
    desk.add(seek("a"), leave("b"))
    desk.add(seek("c"), patience=8.0)
    desk.now = 2.0
    assert devices(desk.take()) == ["c"]
    assert sorted(desk.answers) == [("a", None), ("b", None)]


def test_a_crowd_of_departures_delays_no_newcomer_and_departures_are_not_forgotten() -> None:
    desk = Desk()
    desk.add(*(leave(f"old{number}", f"e{number % 2}") for number in range(1000)))
    fewest, most = DEPARTURES
    leaving = desk.take()
    assert len(leaving) == most
    desk.add(*(seek(f"new{number}", edge=f"e{number % 2}") for number in range(1000)))
    arriving = desk.take()
    assert len(arriving) == IN_PROGRESS - most
    for pending in leaving:
        desk.backlog.done(pending)
    names = devices(desk.take())
    assert sum(name.startswith("old") for name in names) == fewest
    assert len(names) == most


def test_the_crowd_of_one_edge_leaves_hands_and_a_turn_to_every_other() -> None:
    desk = Desk()
    desk.add(*(seek(f"crowd{number}", edge="e0") for number in range(1000)))
    crowd = desk.take()
    assert len(crowd) == OF_GROUP_IN_PROGRESS
    desk.add(*(seek(f"a{number}", edge="e1") for number in range(100)), seek("b", edge="e2"))
    desk.add(*(seek(f"c{number}", edge="e0", app="other") for number in range(100)))
    others = devices(desk.take())
    assert others[:5] == ["a0", "b", "c0", "a1", "c1"]
    assert len(others) == IN_PROGRESS - OF_GROUP_IN_PROGRESS
    for pending in crowd:
        desk.backlog.done(pending)
    again = devices(desk.take())
    assert sum(name.startswith("crowd") for name in again) == len(again) // 3


def test_no_group_waits_with_more_than_its_share_and_what_is_beyond_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backlog, "OF_GROUP", 2)
    desk = Desk()
    desk.add(seek("a"), seek("b"), seek("c"), leave("d"), seek("e", edge="other"), seek("a"))
    assert desk.answers == [("c", None), ("a", None)]
    assert len(desk.backlog) == 4
    for pending in desk.take():
        desk.backlog.done(pending)
    assert not desk.backlog._of_group, "nothing is kept of a group that has no requests"


def test_more_than_can_wait_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "LIMIT", 2)
    desk = Desk()
    desk.add(seek("a"), leave("b"), seek("c"))
    desk.add(seek("a"))  # in place of the other
    assert desk.answers == [("c", None), ("a", None)]
    assert devices(desk.take()) == ["b", "a"]
