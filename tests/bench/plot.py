"""The cost of a payload with each peer as an SVG: bars on a logarithmic scale."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, LABEL, VALUE = 760, 190, 90  # px: of the picture, of the names, of the figures beside the bars
BAR, GAP, HEAD = 16, 5, 30  # px: of a bar, between bars, above a group
FIRST, LAST = 0.1, 10_000.0  # the scale never extends beyond these


class Bar(NamedTuple):
    """One figure."""

    name: str
    value: float
    ours: bool


class Group(NamedTuple):
    """Bars under one title."""

    title: str
    bars: Sequence[Bar]


# Colours legible on white and on black: a picture in a README does not follow the page's theme.
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #6e7781 }
.title { font-weight: 600 }
.axis { stroke: #6e7781; stroke-opacity: .25 }
.ours { fill: #2f81f7 }
.theirs { fill: #8b949e }
"""


def svg(title: str, groups: Sequence[Group]) -> str:
    """Draw groups of bars on one scale."""
    values = [bar.value for group in groups for bar in group.bars if bar.value > 0]
    low = 10 ** math.floor(math.log10(max(FIRST, min(values, default=1))))
    high = 10 ** math.ceil(math.log10(min(LAST, max(values, default=10)) * 1.001))
    room = WIDTH - LABEL - VALUE

    def x(value: float) -> float:
        share = (math.log10(max(value, low)) - math.log10(low)) / (math.log10(high) - math.log10(low))
        return LABEL + room * min(max(share, 0.0), 1.0)

    height = HEAD + sum(HEAD + len(group.bars) * (BAR + GAP) for group in groups) + 10
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<text class="title" x="0" y="14">{escape(title)}</text>',
    ]
    tick = low
    while tick <= high * 1.001:
        out.append(
            f'<line class="axis" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{HEAD}" y2="{height - 4}"/>'
            f'<text x="{x(tick) + 3:.1f}" y="{HEAD - 4}">{tick:g}</text>'
        )
        tick *= 10
    y = HEAD
    for group in groups:
        out.append(f'<text class="title" x="0" y="{y + HEAD - 9}">{escape(group.title)}</text>')
        y += HEAD
        for bar in group.bars:
            kind = "ours" if bar.ours else "theirs"
            out.append(
                f'<text x="{LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(bar.name)}</text>'
                f'<rect class="{kind}" x="{LABEL}" y="{y}" width="{max(x(bar.value) - LABEL, 1):.1f}" '
                f'height="{BAR}" rx="2"/>'
                f'<text x="{x(bar.value) + 6:.1f}" y="{y + 12}">{bar.value:,.3g}</text>'
            )
            y += BAR + GAP
    return "\n".join([*out, "</svg>"]) + "\n"
