"""Which way frames take around a worker that is gone or frozen."""

from cloudmatch_bus.contract import subjects
from cloudmatch_edge.relay.paths import AROUND, DETOURS, FALLBACK, HOLD, HOLD_MAX, MAIN, Paths


def test_frames_take_the_main_path_unless_it_failed() -> None:
    assert Paths().at(0) == MAIN


def test_a_refusal_leads_to_the_fallback_for_a_while_and_from_there_nowhere() -> None:
    paths = Paths()
    assert paths.refused(MAIN, 1)
    assert paths.at(1 + HOLD - 0.01) == FALLBACK
    assert not paths.refused(FALLBACK, 1.1)
    assert paths.at(1 + HOLD) == MAIN


def test_silence_leads_to_the_fallback_and_then_to_each_detour_in_turn() -> None:
    paths, taken = Paths(), []
    path = MAIN
    for _ in range(1 + len(AROUND)):
        paths.silent(path, 0)
        taken.append(path := paths.at(0))
    assert taken == [*AROUND, FALLBACK]


def test_the_way_around_that_worked_is_the_first_to_be_tried_next_time() -> None:
    paths = Paths()
    paths.silent(MAIN, 0)
    paths.silent(FALLBACK, 0)
    paths.worked(DETOURS[0])
    assert paths.at(10) == MAIN
    paths.silent(MAIN, 10)
    assert paths.at(10) == DETOURS[0]


def test_a_main_path_that_fails_again_and_again_is_tried_less_often_until_it_works() -> None:
    paths, now, holds = Paths(), 0.0, []
    for _ in range(5):
        paths.silent(MAIN, now)
        begin = now
        while paths.at(now) != MAIN:
            now += HOLD / 2
        holds.append(now - begin)
    assert holds == [HOLD, 2 * HOLD, 4 * HOLD, HOLD_MAX, HOLD_MAX]
    paths.worked(MAIN)
    paths.silent(MAIN, now)
    assert paths.at(now + HOLD) == MAIN


def test_detours_are_partitions_of_others_each_another() -> None:
    ways = {subjects.up("app", "device", detour) for detour in (0, *DETOURS)}
    assert len(ways) == 1 + len(DETOURS)
