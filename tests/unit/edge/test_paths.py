"""Paths around a dead or frozen worker."""

from cloudmatch_bus.contract import subjects
from cloudmatch_edge.relay.paths import ALTERNATIVES, DETOURS, FALLBACK, HOLD, HOLD_MAX, MAIN, Paths


def test_batches_take_the_main_path_unless_it_failed() -> None:
    assert Paths().at(0) == MAIN


def test_a_main_path_without_responders_leads_to_the_fallback_for_a_while_and_from_there_nowhere() -> None:
    paths = Paths()
    assert paths.no_responders(MAIN, 1)
    assert paths.at(1 + HOLD - 0.01) == FALLBACK
    assert not paths.no_responders(FALLBACK, 1.1)
    assert paths.at(1 + HOLD) == MAIN


def test_timeouts_lead_to_the_fallback_and_then_to_each_detour_in_turn() -> None:
    paths, alternatives = Paths(), []
    path = MAIN
    for _ in range(1 + len(ALTERNATIVES)):
        paths.timed_out(path, 0)
        alternatives.append(path := paths.at(0))
    assert alternatives == [*ALTERNATIVES, FALLBACK]


def test_the_alternative_that_was_acknowledged_is_tried_first_next_time() -> None:
    paths = Paths()
    paths.timed_out(MAIN, 0)
    paths.timed_out(FALLBACK, 0)
    paths.acknowledged(DETOURS[0])
    assert paths.at(10) == MAIN
    paths.timed_out(MAIN, 10)
    assert paths.at(10) == DETOURS[0]


def test_a_main_path_that_keeps_failing_is_tried_less_often_until_it_works() -> None:
    paths, now, holds = Paths(), 0.0, []
    for _ in range(5):
        paths.timed_out(MAIN, now)
        begin = now
        while paths.at(now) != MAIN:
            now += HOLD / 2
        holds.append(now - begin)
    assert holds == [HOLD, 2 * HOLD, 4 * HOLD, HOLD_MAX, HOLD_MAX]
    paths.acknowledged(MAIN)
    paths.timed_out(MAIN, now)
    assert paths.at(now + HOLD) == MAIN


def test_each_detour_is_a_partition_of_its_own() -> None:
    up_subjects = {subjects.up("app", "edge", "device", detour) for detour in (0, *DETOURS)}
    assert len(up_subjects) == 1 + len(DETOURS)
