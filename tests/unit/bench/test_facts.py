"""The form of the facts' bench: what it reports, and how it reads what it looked at."""

from bench import facts
from bench.load_facts import Look, Looks, Use


def look(at: float, done: float, cpu: float, busy: float = 0) -> Look:
    return Look(at, done, {"journal": Use(cpu, 80)}, busy)


def test_rate_and_cost_are_those_of_the_span_that_was_asked_for() -> None:
    looks = Looks([look(0, 0, 1), look(1, 500, 1.1), look(2, 1000, 1.2), look(4, 2000, 1.4)])
    span = looks.span(500, 1500)
    assert (span.begin.done, span.end.done) == (500, 2000)
    assert span.rate == 500
    assert round(span.cpu_us("journal")) == 200


def test_what_others_used_is_what_the_machine_used_beside_the_measured() -> None:
    looks = Looks([look(0, 0, 1, busy=10), look(2, 100, 2, busy=14)])
    assert looks.span(0, 100).strangers == 1.5


def test_a_span_within_one_look_is_the_one_before_it() -> None:
    looks = Looks([look(0, 0, 1), look(1, 5000, 1.1), look(2, 5000, 1.1)])
    assert looks.span(4000, 5000).rate == 5000


def test_a_figure_is_written_with_the_digits_that_say_something() -> None:
    assert [facts.number(value) for value in (0.1234, 5.678, 56.78, 5678.9)] == [
        "0.12",
        "5.68",
        "56.8",
        "5,679",
    ]


def test_the_table_has_a_row_for_each_figure() -> None:
    rows = [
        facts.Row("journal", "start", 1.2, "s", "≤ 5", met=True),
        facts.Row("bridge", "rate", 9000, "sizes/s"),
    ]
    assert facts.table(rows).row_count == 2


def test_every_part_can_be_measured() -> None:
    assert {"journal", "bridge"} <= set(facts.parts()) <= set(facts.PARTS)
