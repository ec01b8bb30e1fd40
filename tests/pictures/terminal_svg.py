"""Pure: what terminals showed, as an animated SVG that loops and, where motion is unwelcome, shows the end.

A terminal is a long sheet of rows that scrolls behind a window. Each text that a row had is drawn, visible
while the row had it. The panels are dark on any page.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import NamedTuple

from rich.ansi import AnsiDecoder
from rich.text import Text

CELL, LINE, FONT = 7.8, 18, 13  # px: width of a character, height of a row, size of the font
EDGE, HEAD = 14, 34  # px: inside a panel, its title bar
GAP = 6 * CELL - 2 * EDGE  # px between panels, so that n + 6 + n columns are as wide as two panels of n
COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white", "bright_black")
HOLD = 5.0  # s for which the end stays before the film begins again

STYLE = """
text { fill: #d5dbe6; white-space: pre }
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace }
.panel { fill: #11161f; stroke: #3a4454 }
.bar { fill: #1b222e }
.title { font-family: system-ui, sans-serif; text-anchor: middle; fill: #9ba6b7 }
.red { fill: #ff9c94 } .green { fill: #55d697 } .yellow { fill: #f7b955 } .blue { fill: #8fb4ff }
.magenta { fill: #d9a5ff } .cyan { fill: #6fd6e8 } .bright_black { fill: #8792a5 }
.bold { font-weight: 700 } .italic { font-style: italic }
@media (prefers-reduced-motion: reduce) { g { animation: none !important } }
"""


class Sight(NamedTuple):
    """A terminal at one moment."""

    at: float  # s
    lines: Sequence[str]  # all rows since its start, with escape sequences of colours
    scrolled: int  # how many of them have left the window


class Terminal(NamedTuple):
    """A terminal and its sights, oldest first."""

    title: str
    columns: int
    rows: int
    sights: Sequence[Sight]


class Run(NamedTuple):
    """Characters of one style, side by side in a row."""

    column: int
    text: str
    style: str  # classes


class Row(NamedTuple):
    """The text of a row, and when it was there."""

    number: int
    runs: tuple[Run, ...]
    begin: float
    end: float | None  # None: until the end


def without_pauses(terminals: Sequence[Terminal], longest: float) -> list[Terminal]:
    """Cut each time in which nothing changed to at most `longest` seconds; the first sight is at 0."""
    moments = sorted({sight.at for terminal in terminals for sight in _changes(terminal.sights)})
    when, now = dict[float, float](), 0.0
    for i, moment in enumerate(moments):
        now += min(moment - moments[i - 1], longest) if i else 0.0
        when[moment] = now
    return [
        terminal._replace(sights=[sight._replace(at=when[sight.at]) for sight in _changes(terminal.sights)])
        for terminal in terminals
    ]


def _changes(sights: Iterable[Sight]) -> Iterator[Sight]:
    previous: Sight | None = None
    for sight in sights:
        if previous is None or sight[1:] != previous[1:]:
            yield sight
        previous = sight


def rows(sights: Iterable[Sight]) -> list[Row]:
    """Collect each text of each row, in the order in which they appeared."""
    found: list[Row] = []
    current: dict[int, Row] = {}
    for sight in sights:
        shown = dict(enumerate(_decode(sight.lines)))
        for number in {*shown, *current}:
            runs, old = shown.get(number, ()), current.get(number)
            if old is not None and old.runs != runs:
                found.append(old._replace(end=sight.at))
                del current[number]
            if runs and number not in current:
                current[number] = Row(number, runs, sight.at, None)
    return sorted([*found, *current.values()], key=lambda row: (row.begin, row.number))


def _decode(lines: Iterable[str]) -> Iterator[tuple[Run, ...]]:
    decoder = AnsiDecoder()  # a style may go on in the next line
    for line in lines:
        yield tuple(_runs(decoder.decode_line(line)))


def _runs(line: Text) -> Iterator[Run]:
    column = 0
    for text, style in _segments(line):
        shown = text.strip(" ")
        if shown:
            yield Run(column + len(text) - len(text.lstrip(" ")), shown, style)
        column += len(text)


def _segments(line: Text) -> Iterator[tuple[str, str]]:
    ends = sorted({0, len(line.plain), *(end for span in line.spans for end in (span.start, span.end))})
    for begin, end in itertools.pairwise(ends):
        classes: dict[str, None] = {}
        for span in line.spans:
            style = span.style
            if span.start <= begin and end <= span.end and not isinstance(style, str):
                if style.color is not None and style.color.number is not None:
                    classes[COLOURS[style.color.number]] = None
                classes |= {name: None for name in ("bold", "italic") if getattr(style, name)}
        yield line.plain[begin:end], " ".join(classes)


def svg(title: str, layout: Sequence[Sequence[Terminal]]) -> str:
    """Draw terminals, given in rows of panels."""
    terminals = [terminal for row in layout for terminal in row]
    length = max(sight.at for terminal in terminals for sight in terminal.sights) + HOLD
    film = Film(length)
    panels, y, width = [], 0.0, 0.0
    for row in layout:
        x = 0.0
        for terminal in row:
            panels.append(_panel(film, terminal, x, y))
            x += terminal.columns * CELL + 2 * EDGE + GAP
        width = max(width, x - GAP)
        y += HEAD + max(terminal.rows for terminal in row) * LINE + 2 * EDGE + GAP
    box = f"-1 -1 {width + 2:.1f} {y - GAP + 2:.1f}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}{film.keyframes()}</style>",
            *panels,
            "</svg>\n",
        ]
    )


class Film:
    """The animations of one SVG: each is a property's values over time, for the elements of a class."""

    def __init__(self, length: float) -> None:
        self._length = length
        self._names: dict[str, str] = {}

    def steps(self, values: Iterable[tuple[float, str]]) -> str:
        """Return the class of an element that takes these declarations at these times."""
        frames = "".join(f"{at / self._length:.3%} {{{value}}} " for at, value in values)
        return self._names.setdefault(frames, f"t{len(self._names)}")

    def keyframes(self) -> str:
        """Write the style sheet."""
        how = f"{self._length:.1f}s step-end infinite"
        return "".join(
            f"@keyframes {name} {{ {frames}}} .{name} {{ animation: {name} {how} }}\n"
            for frames, name in self._names.items()
        )


def _panel(film: Film, terminal: Terminal, x: float, y: float) -> str:
    width, height = terminal.columns * CELL, terminal.rows * LINE
    panel_width = width + 2 * EDGE
    scrolls = [(sight.at, sight.scrolled) for sight in terminal.sights]
    moved = film.steps((at, f"transform: translateY({-LINE * rows}px)") for at, rows in _distinct(scrolls))
    return "\n".join(
        [
            f'<g transform="translate({x:g} {y:g})">',
            f'<rect class="panel" width="{panel_width:g}" height="{HEAD + height + 2 * EDGE:g}" rx="10"/>',
            f'<path class="bar" d="M1 {HEAD}V10a9 9 0 0 1 9-9H{panel_width - 10:g}a9 9 0 0 1 9 9V{HEAD}Z"/>',
            f'<text class="title" x="{panel_width / 2:g}" y="22">{escape(terminal.title)}</text>',
            f'<svg x="{EDGE}" y="{HEAD + EDGE}" width="{width:g}" height="{height}">',
            f'<g class="{moved}" transform="translate(0 {-LINE * scrolls[-1][1]})">',
            *(_draw(film, row) for row in rows(terminal.sights)),
            "</g></svg></g>",
        ]
    )


def _distinct(steps: Iterable[tuple[float, int]]) -> Iterator[tuple[float, int]]:
    previous = None
    for at, value in steps:
        if value != previous:
            yield at, value
        previous = value


def _draw(film: Film, row: Row) -> str:
    steps = [(row.begin, "visibility: visible")]
    if row.begin > 0:
        steps.insert(0, (0.0, "visibility: hidden"))
    if row.end is not None:
        steps.append((row.end, "visibility: hidden"))
    hidden = "" if row.end is None else ' visibility="hidden"'
    moving = f' class="{film.steps(steps)}"' if len(steps) > 1 else ""
    return f"<g{moving}{hidden}>{''.join(_text(run, row.number) for run in row.runs)}</g>"


def _text(run: Run, row: int) -> str:
    style = f' class="{run.style}"' if run.style else ""
    place = f'x="{run.column * CELL:.1f}" y="{row * LINE + FONT}" textLength="{len(run.text) * CELL:.1f}"'
    return f'<text{style} {place} xml:space="preserve">{escape(run.text, quote=False)}</text>'
