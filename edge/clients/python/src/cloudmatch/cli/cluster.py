"""All edges and workers as tables, what is wrong, and where a device is: ``cloudmatch cluster``."""

from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from cloudmatch.cli.rest import AnswerError, ask
from cloudmatch.cli.words import duration, moment

COLOURS = {"alive": "green", "draining": "yellow", "full": "yellow", "silent": "yellow", "left": "dim"}
UNKNOWN = "–"  # the process does not say


def ask_cluster(match_engine: str, app: str | None = None, device: str | None = None) -> dict[str, Any]:
    """Return what a worker knows of the cluster, and of a device.

    Raises:
        AnswerError: no worker answers there, or none of a version that knows.
    """
    status = ask(match_engine, "/cluster", id=device, app=app)
    if not isinstance(status, dict) or not {"edges", "workers", "problems"} <= status.keys():
        raise AnswerError(f"{match_engine} is no match-engine, or one of an older version")
    return status


def render(status: dict[str, Any]) -> RenderableType:
    """Return both tables, what is wrong, and where the device is that was asked for."""
    parts: list[RenderableType] = [_edges(status["edges"]), _workers(status)]
    parts += [
        f"[yellow]! {escape(problem['sentence'])}[/] [b]→ {escape(problem['advice'])}[/]"
        for problem in status["problems"]
    ]
    if device := status.get("device"):
        parts.append(escape(where(device)))
    return Group(*parts)


def where(device: dict[str, Any]) -> str:
    """Say where a device is."""
    name, edge, since = device["id"], device["edge"], moment(device["since"])
    if device["state"] == "away":
        sentence = f"{name} has been disconnected since {since}; edge {edge} held it last"
    else:
        waits = " and waits for a peer" if device["state"] == "waiting" else ""
        sentence = f"{name} has been connected to edge {edge} since {since}{waits}"
    if device["match"] is None:
        return f"{sentence}."
    held = f" on edge {device['peer_edge']}" if device["peer_edge"] else ""
    return f"{sentence}. It is in match {device['match']} with {device['peer']}{held}."


def _edges(edges: list[dict[str, Any]]) -> Table:
    table = _table("edge", "devices", "matched", "waiting", "away")
    for edge in edges:
        devices = _number(edge["devices"])
        if edge["max_devices"]:
            devices += f" of {edge['max_devices']:,}"
        state = edge["state"]
        rest = f", {edge['releasing']:,} to release" if edge["releasing"] else ""
        table.add_row(
            escape(edge["name"]),
            f"[{COLOURS.get(state, 'red')}]{state}[/]{rest}",
            *_vitals(edge),
            devices,
            *(_number(edge[name]) for name in ("matched", "waiting", "away")),
        )
    return table


def _workers(status: dict[str, Any]) -> Table:
    table = _table("worker", "partitions", "devices known")
    for worker in status["workers"]:
        notes = ""
        if worker["name"] == status["answered_by"]:
            notes = " (isolated)" if status["isolated"] else " (answered)"
        state = worker["state"]
        table.add_row(
            escape(worker["name"]) + notes,
            f"[{COLOURS.get(state, 'red')}]{state}[/]",
            *_vitals(worker),
            *(_number(worker[name]) for name in ("partitions", "devices")),
        )
    return table


def _table(kind: str, *figures: str) -> Table:
    table = Table(kind, "state", "version", "age", "last heard", "load")
    for each in figures:
        table.add_column(each)
    for column in table.columns[3:]:
        column.justify = "right"
    return table


def _vitals(process: dict[str, Any]) -> tuple[str, str, str, str]:
    """Return version, age, time of the last heartbeat, and load, as texts."""
    age, heard, load = process["age"], process["heard"], process["load"]
    return (
        escape(process["version"] or UNKNOWN),
        UNKNOWN if age is None else duration(age),
        UNKNOWN if heard is None else f"{heard:.1f} s" if heard < 10 else duration(heard),
        UNKNOWN if load is None else f"{load:.0%}",
    )


def _number(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"
