"""Render the result of a run: a table on a terminal, or in Markdown."""

from collections.abc import Iterator

from rich.table import Table

from faults.checker import Count
from faults.run import Result

COLUMNS = ("fault", "times", "sent", "lost", "duplicated", "out of order", "corrupted", "stall, ms")


def _rows(result: Result) -> Iterator[tuple[str, ...]]:
    for name, (times, count) in result.rows.items():
        yield _row(name, times, count)
    yield _row("all", result.faults, result.total)


def _row(name: str, times: int, c: Count) -> tuple[str, ...]:
    numbers = (times, c.sent, c.lost, c.duplicated, c.out_of_order, c.corrupted, round(c.stall * 1000))
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
    """Make the table for a Markdown page."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" + "|---:" * (len(COLUMNS) - 1) + "|"]
    rows = list(_rows(result))
    lines += [f"| {' | '.join(row)} |" for row in rows[:-1]]
    lines.append("| " + " | ".join(f"**{cell}**" for cell in rows[-1]) + " |")
    return "\n".join(lines)


def summary(result: Result) -> str:
    """Summarize the run in a paragraph."""
    unpublished = result.bytes_received - result.bytes_in_facts
    killed = (
        f" Edges killed: {result.edges_killed}; bytes missing from the facts: {unpublished:,}."
        if result.edges_killed
        else ""
    )
    counted = "".join(f"; {who}: {total:,}" for who, total in result.sums.items())
    unaccounted = f" Payloads whose sizes nobody knows: {result.unaccounted:,}." if result.unaccounted else ""
    resumed = f" Devices resumed {result.resumed:,} times." if result.resumed else ""
    rate = result.total.sent / result.seconds if result.seconds else 0
    return (
        f"{result.faults} faults in {result.seconds:.0f} s, {result.total.sent:,} payloads sent "
        f"({rate:,.0f} per second), {result.received:,} received. "
        f"Bytes received by devices: {result.bytes_received:,}; "
        f"in the facts in EVENTS: {result.bytes_in_facts:,}{counted}."
        f"{unaccounted}{killed}{resumed}"
    )
