"""What processes said of themselves is remembered for a while, in bounded memory."""

import pytest

from cloudmatch_bus.contract.liveness import EDGE_DEAD_AFTER, HEARTBEAT_INTERVAL
from cloudmatch_bus.contract.messages import Heartbeat
from cloudmatch_match_engine.core import heartbeat_log
from cloudmatch_match_engine.core.heartbeat_log import KEPT_FOR, LEFT_KEPT_FOR, HeartbeatLog


def beat(name: str = "e", incarnation: int = 1, *, leaving: bool = False, devices: int = 0) -> Heartbeat:
    return Heartbeat(role="edge", name=name, incarnation=incarnation, leaving=leaving, devices=devices)


def test_the_last_heartbeat_of_each_name_is_remembered() -> None:
    log = HeartbeatLog()
    assert log.get("e") is None
    log.record(beat(devices=1), 0.0)
    log.record(beat("other"), 0.1)
    log.record(beat(devices=2), 0.5)
    heard = log.get("e")
    assert heard is not None
    assert (heard.heartbeat.devices, heard.at) == (2, 0.5)
    assert sorted(log.recent(0.5)) == ["e", "other"]


def test_a_silent_process_is_remembered_for_ten_minutes_and_one_that_left_for_one() -> None:
    log = HeartbeatLog()
    log.record(beat("silent"), 0.0)
    log.record(beat("left", leaving=True), 0.0)
    assert list(log.recent(LEFT_KEPT_FOR)) == ["silent", "left"]
    assert list(log.recent(LEFT_KEPT_FOR + 1)) == ["silent"]
    assert list(log.recent(KEPT_FOR)) == ["silent"]
    assert not list(log.recent(KEPT_FOR + 1))
    log.record(beat("left"), 70.0)
    assert list(log.recent(70.0)) == ["silent", "left"], "it has returned"


def test_however_many_names_come_and_go_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    log = HeartbeatLog()
    for second in range(int(2 * KEPT_FOR)):
        log.record(beat(f"w{second}"), second)
    assert len(log._heard) <= KEPT_FOR + 1
    monkeypatch.setattr(heartbeat_log, "MOST", 10)
    log = HeartbeatLog()
    for number in range(25):
        log.record(beat("kept"), 1.0)
        log.record(beat(f"w{number}"), 1.0)
    assert len(log._heard) == 10
    assert log.get("kept") is not None
    assert log.get("w24") is not None
    assert log.get("w1") is None


def test_a_restarted_process_replaces_its_predecessor_whose_last_heartbeat_came_late() -> None:
    log = HeartbeatLog()
    log.record(beat(incarnation=1), 0.0)
    log.record(beat(incarnation=2, devices=5), 1.0)
    log.record(beat(incarnation=1), 1.1)
    log.record(beat(incarnation=1, leaving=True), 1.2)
    heard = log.get("e")
    assert heard is not None
    assert (heard.heartbeat.incarnation, heard.heartbeat.devices) == (2, 5)
    assert not heard.contested(1.2)


def test_two_running_processes_of_one_name_contest_it_until_one_falls_silent() -> None:
    log = HeartbeatLog()
    now = 0.0
    for _ in range(3):
        log.record(beat(incarnation=1), now)
        log.record(beat(incarnation=2), now + 0.2)
        now += HEARTBEAT_INTERVAL
    heard = log.get("e")
    assert heard is not None
    assert heard.contested(now)
    assert heard.contested(heard.older_at + EDGE_DEAD_AFTER)
    assert not heard.contested(heard.older_at + EDGE_DEAD_AFTER + 0.1)
    log.record(beat(incarnation=3), now)
    assert not heard.contested(now), "a third process starts over"
