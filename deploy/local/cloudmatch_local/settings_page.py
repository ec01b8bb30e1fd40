"""Write deploy/SETTINGS.md, the table of all settings: ``make settings``."""

import typing
from collections.abc import Iterator
from pathlib import Path

from cloudmatch_bus.process.settings import Settings, describe, variable
from cloudmatch_local.settings import groups

FILE = Path(__file__).resolve().parents[2] / "SETTINGS.md"

INTRODUCTION = """\
# Settings

Settings are environment variables, read once when a process starts; an empty value counts as absent. A value
that cannot be used ends the process with exit code 2 and a sentence that names the variable, and so does a
port that is taken. An unknown variable is warned about. `make up` checks the settings of all processes before
it starts any.

`make settings` generates this page.

| variable | default | meaning |
|---|---|---|
"""


def render() -> str:
    """Render the page from the descriptions of all groups of settings."""
    rows = [row for of_service in groups().values() for group in of_service for row in _rows(group)]
    return INTRODUCTION + "\n".join(rows) + "\n"


def _rows(group: type[Settings]) -> Iterator[str]:
    choices = {
        variable(group, field): ", ".join(f"`{value}`" for value in typing.get_args(hint))
        for field, hint in typing.get_type_hints(group).items()
        if typing.get_origin(hint) is typing.Literal
    }
    for name, default, description in describe(group):
        shown = "" if default == "" else f"`{default}`"
        values = f" One of {choices[name]}." if name in choices else ""
        yield f"| `{name}` | {shown} | {description}{values} |"


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
