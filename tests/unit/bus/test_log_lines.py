"""An event is one line of the log, whatever is in it, and no kind of event floods it."""

import logging
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.process.log_lines import (
    INDENT,
    INTERVAL,
    LONGEST,
    LONGEST_TRACE,
    MAX_KINDS,
    MOST,
    Brake,
    LineFormatter,
    printable,
    shortened,
)

WILD = "a\nERROR http: forged\r\x1b[2J\x00\u2028\u202e" + 64 * "\N{SPEAKER WITH THREE SOUND WAVES}"
Log = Callable[..., str]


def record(text: str, *args: object, level: int = logging.WARNING, name: str = "test") -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, text, args, None)


def formatted(of: logging.LogRecord) -> str:
    return LineFormatter("%(levelname)s %(name)s: %(message)s").format(of)


def test_an_id_begins_no_line_controls_no_terminal_and_stays_whole() -> None:
    line = formatted(record("device %s left", WILD))
    assert line.isprintable()
    assert line.startswith(r"WARNING test: device a\nERROR http: forged\r\x1b[2J\x00\u2028\u202e")
    assert line.endswith(64 * "\N{SPEAKER WITH THREE SOUND WAVES}" + " left")


@given(st.text(max_size=300), st.integers(1, 50))
def test_any_text_is_one_printable_line_of_bounded_length(text: str, times: int) -> None:
    line = formatted(record("%s", text * times))
    assert line.isprintable() or not line
    assert "\n" not in line
    assert (
        len(line.encode()) <= 3 * LONGEST + 50
    )  # an escape has up to ten characters, its character up to four


def test_a_text_is_cut_only_beyond_its_limit() -> None:
    assert shortened("é" * 8, 16) == "é" * 8
    assert shortened("é" * 9, 16) == "é" * 8 + "… 18 bytes"
    assert shortened("é" * 9, 17) == "é" * 8 + "… 18 bytes"
    assert printable("é") == "é"


def test_a_traceback_is_indented_so_that_no_line_of_it_is_an_event_and_its_end_remains() -> None:
    try:
        raise ValueError(WILD + "x" * 2 * LONGEST_TRACE + "\nINFO: end")  # noqa: TRY301 # to be logged
    except ValueError as error:
        of = record("failed")
        of.exc_info = (ValueError, error, error.__traceback__)
    first, *rest = formatted(of).split("\n")
    assert first == "WARNING test: failed"
    assert all(line.startswith(INDENT) and line.isprintable() for line in rest)
    assert rest[-1] == f"{INDENT}INFO: end"
    assert sum(map(len, rest)) < LONGEST_TRACE


@pytest.fixture
def brake() -> tuple[Brake, list[float]]:
    time = [0.0]
    return Brake(lambda: time[0]), time


def test_of_a_flood_some_lines_are_logged_and_the_next_says_how_many_were_not(
    brake: tuple[Brake, list[float]],
) -> None:
    passes, time = brake
    lines = [record("refused: %s", number) for number in range(MOST + 5)]
    assert [passes.filter(each) for each in lines] == [True] * MOST + [False] * 5
    assert lines[0].getMessage() == "refused: 0"
    assert (
        lines[MOST - 1].getMessage()
        == f"refused: {MOST - 1} (for 10 s no more lines like this one are logged)"
    )
    assert passes.filter(record("another"))
    assert passes.filter(record("refused: %s", name="another"))
    time[0] += INTERVAL
    after = record("refused: %s", "again")
    assert passes.filter(after)
    assert after.getMessage() == "refused: again (5 lines like this one were not logged)"
    time[0] += INTERVAL
    last = record("refused: %s", "last")
    assert passes.filter(last)
    assert last.getMessage() == "refused: last"


def test_lines_that_are_few_and_those_for_debugging_all_pass(brake: tuple[Brake, list[float]]) -> None:
    passes, time = brake
    for _ in range(5 * MOST):
        time[0] += INTERVAL / (MOST - 1)
        line = record("rare")
        assert passes.filter(line)
        assert line.getMessage() == "rare"
    assert all(passes.filter(record("detail", level=logging.DEBUG)) for _ in range(5 * MOST))


def test_only_so_many_kinds_are_remembered(brake: tuple[Brake, list[float]]) -> None:
    passes, _ = brake
    for number in range(3 * MAX_KINDS):
        assert passes.filter(record(f"kind {number}"))
    assert len(passes._kinds) == MAX_KINDS
