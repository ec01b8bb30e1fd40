"""Terminals as an animated SVG."""

import re
from xml.etree import ElementTree

import pytest

from pictures.terminal_svg import CELL, HOLD, LINE, Row, Run, Sight, Terminal, rows, svg, without_pauses

SVG = "{http://www.w3.org/2000/svg}"


def terminal(*sights: Sight) -> Terminal:
    return Terminal("a & b", 20, 2, sights)


def drawn(*terminals: Terminal) -> ElementTree.Element:
    return ElementTree.fromstring(svg("two", [terminals]))  # noqa: S314 - our own


def test_a_row_is_drawn_once_for_each_text_it_had() -> None:
    sights = [
        Sight(0, ["$"], 0),
        Sight(1, ["$ ls", "file"], 0),
        Sight(2, ["$ ls", "file"], 1),
        Sight(3, [], 0),
    ]
    assert rows(sights) == [
        Row(0, (Run(0, "$", ""),), 0, 1),
        Row(0, (Run(0, "$ ls", ""),), 1, 3),
        Row(1, (Run(0, "file", ""),), 1, 3),
    ]


def test_styles_go_on_in_the_next_line_until_they_are_reset() -> None:
    lines = ["plain \x1b[1m\x1b[31m  red", "still\x1b[0m\x1b[39m not", "\x1b[3mitalic\x1b[0m\x1b[90m dim"]
    assert [row.runs for row in rows([Sight(0, lines, 0)])] == [
        (Run(0, "plain", ""), Run(8, "red", "red bold")),
        (Run(0, "still", "red bold"), Run(6, "not", "")),
        (Run(0, "italic", "italic"), Run(7, "dim", "bright_black")),
    ]


def test_pauses_of_all_terminals_are_cut_alike_and_time_begins_at_0() -> None:
    one = terminal(Sight(100, ["a"], 0), Sight(103, ["a"], 0), Sight(110, ["b"], 0))
    other = terminal(Sight(100.5, ["c"], 0), Sight(111, ["d"], 0))
    cut = without_pauses([one, other], 2.0)
    assert [[sight.at for sight in each.sights] for each in cut] == [[0, 2.5], [0.5, 3.5]]


def test_rows_appear_scroll_and_vanish_at_their_times_and_at_rest_the_end_is_seen() -> None:
    of_two = terminal(Sight(0, ["<one>", "two"], 0), Sight(5, ["<one>", "TWO", "three"], 1))
    text = svg("two", [[of_two]])
    root = drawn(of_two)
    groups = {"".join(each.itertext()): each for each in root.iter(f"{SVG}g") if each[0].tag == f"{SVG}text"}
    assert set(groups) >= {"<one>", "two", "TWO", "three"}
    assert "class" not in groups["<one>"].attrib
    assert groups["two"].attrib["visibility"] == "hidden"
    assert "visibility" not in groups["three"].attrib
    middle = f"{5 / (5 + HOLD):.3%}"
    frames = dict(re.findall(r"@keyframes (\w+) \{ (.*)\} \.", text))
    assert frames[groups["two"].attrib["class"]] == (
        f"0.000% {{visibility: visible}} {middle} {{visibility: hidden}} "
    )
    assert frames[groups["three"].attrib["class"]] == (
        f"0.000% {{visibility: hidden}} {middle} {{visibility: visible}} "
    )
    sheet = next(each for each in root.iter(f"{SVG}g") if each.get("transform") == f"translate(0 {-LINE})")
    assert f"{middle} {{transform: translateY({-LINE}px)}}" in frames[sheet.attrib["class"]]


def test_each_run_takes_the_width_of_its_columns_in_any_font() -> None:
    root = drawn(terminal(Sight(0, ["  ciao"], 0)))
    (run,) = (each for each in root.iter(f"{SVG}text") if each.text == "ciao")
    assert float(run.attrib["x"]) == pytest.approx(2 * CELL)
    assert float(run.attrib["textLength"]) == pytest.approx(4 * CELL)


def test_panels_of_a_row_stand_side_by_side() -> None:
    root = drawn(terminal(Sight(0, ["a"], 0)), terminal(Sight(0, ["b"], 0)))
    panels = [each.attrib["transform"] for each in root.findall(f"{SVG}g")]
    assert panels[0] == "translate(0 0)"
    assert float(panels[1][10:-1].split()[0]) > 20 * CELL
    assert [each.text for each in root.iter(f"{SVG}text")].count("a & b") == 2
