"""How a run is shown: a table on a terminal, or in Markdown."""

from collections.abc import Iterator

from rich.table import Table

from faults.run import Result
from faults.tally import Count

COLUMNS = ("fault", "times", "sent", "lost", "twice", "disordered", "corrupted", "stall, ms")


def _rows(result: Result) -> Iterator[tuple[str, ...]]:
    for name, (times, count) in result.rows.items():
        yield _row(name, times, count)
    yield _row("all", result.faults, result.total)


def _row(name: str, times: int, c: Count) -> tuple[str, ...]:
    numbers = (times, c.sent, c.lost, c.twice, c.out_of_order, c.corrupted, round(c.stall * 1000))
    return (name, *(f"{n:,}" for n in numbers))


def table(result: Result) -> Table:
    """Make the table for a terminal."""
    out = Table()
    for i, column in enumerate(COLUMNS):
        out.add_column(column, justify="right" if i else "left", no_wrap=True)
    rows = list(_rows(result))
    for row in rows[:-1]:
        out.add_row(*row)
    out.add_section()
    out.add_row(*rows[-1], style="bold")
    return out


def markdown(result: Result) -> str:
    """Make the table for a page."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" + "|---:" * (len(COLUMNS) - 1) + "|"]
    rows = list(_rows(result))
    lines += [f"| {' | '.join(row)} |" for row in rows[:-1]]
    lines.append("| " + " | ".join(f"**{cell}**" for cell in rows[-1]) + " |")
    return "\n".join(lines)


def summary(result: Result) -> str:
    """Say what else there is to know, in a paragraph."""
    untold = result.bytes_heard - result.bytes_told
    killed = (
        f" {result.edges_killed} killed edges left {untold:,} bytes untold." if result.edges_killed else ""
    )
    resumed = f" Devices came back {result.resumed:,} times." if result.resumed else ""
    rate = result.total.sent / result.seconds if result.seconds else 0
    return (
        f"{result.faults} faults in {result.seconds:.0f} s, {result.total.sent:,} payloads sent "
        f"({rate:,.0f} per second), {result.heard:,} heard. "
        f"Bytes heard by devices: {result.bytes_heard:,}; told by the facts in EVENTS: {result.bytes_told:,}."
        f"{killed}{resumed}"
    )
