"""The clients and the documents have the edge's table of close codes.

Rewrite their copies: ``python tests/contract/test_close_codes.py``.
"""

import re
from pathlib import Path

import pytest

from cloudmatch.core import retry
from cloudmatch_edge.dialects.close_codes import CLOSE_CODES, CloseCode

EDGE = Path(__file__).parents[2] / "edge"
PYTHON = EDGE / "clients/python/src/cloudmatch/core/close_codes.py"
JAVASCRIPT = EDGE / "clients/javascript/cloudmatch.js"
PAGE = EDGE / "docs/close-codes.md"
BLOCK = re.compile(r"(?<=// -- close codes \(generated\)\n).*?(?=// -- end of close codes\n)", re.DOTALL)

NAMES = {each.code: each.name.upper().replace(" ", "_") for each in CLOSE_CODES}


def python() -> str:
    """Render the Python client's copy."""
    return "\n".join(
        (
            '"""Close codes of ``cloudmatch.v1``, and when a device reconnects after them.',
            "",
            "Generated from the edge's table: ``python tests/contract/test_close_codes.py``.",
            '"""',
            "",
            "from typing import Literal",
            "",
            'Reconnect = Literal["never", "at once", "with backoff", "with long backoff"]',
            "",
            *(f"{NAMES[each.code]} = {each.code}" for each in CLOSE_CODES),
            "",
            "# Any other code: with backoff.",
            "RECONNECT: dict[int | None, Reconnect] = {",
            *(f'    {NAMES[each.code]}: "{each.reconnect}",' for each in CLOSE_CODES),
            "}",
            "",
        )
    )


def javascript() -> str:
    """Render the JavaScript client's copy: the block between two comments of its one file."""
    used = ("NORMAL", "ABNORMAL", "REPLACED")
    return "\n".join(
        (
            *(f"const {NAMES[each.code]} = {each.code};" for each in CLOSE_CODES if NAMES[each.code] in used),
            "// When to reconnect after each close code. Any other code: with backoff.",
            "const RECONNECT = /** @type {Record<number, string>} */ ({",
            *(f'  {each.code}: "{each.reconnect}", // {each.name}' for each in CLOSE_CODES),
            "});",
            "",
        )
    )


def page() -> str:
    """Render the page."""
    return "\n".join(
        (
            "# Close codes",
            "",
            "Each close code that an edge sends or records, and when a client of `cloudmatch.v1` reconnects.",
            "At once: after a random part of a second. With backoff: after 0.1 s, doubling to 5 s. With long",
            "backoff: after 1 s, doubling to 30 s. Clients treat any other code like *with backoff*.",
            "",
            "| code | name | meaning | the client reconnects |",
            "|---|---|---|---|",
            *(
                f"| {each.code} | {each.name} | {each.meaning} | {each.reconnect} |"
                for each in sorted(CLOSE_CODES)
            ),
            "",
            "This page and both clients' copies are generated from the edge's table",
            "(`src/cloudmatch_edge/dialects/close_codes.py`): `python tests/contract/test_close_codes.py`.",
            "",
        )
    )


def test_the_python_client_has_the_table_of_the_edge() -> None:
    assert PYTHON.read_text(encoding="utf-8") == python()


def test_the_javascript_client_has_the_table_of_the_edge() -> None:
    assert BLOCK.findall(JAVASCRIPT.read_text(encoding="utf-8")) == [javascript()]


def test_the_page_of_close_codes_shows_the_table_of_the_edge() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_both_clients_have_a_reason_for_each_code_that_stops_a_device() -> None:
    never = {each.code for each in CLOSE_CODES if each.reconnect == "never"}
    assert set(retry.STOPPED) == never
    block = re.search(r"const STOPPED = .*?\}\);", JAVASCRIPT.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    assert {int(code) for code in re.findall(r"^  (\d+): ", block[0], re.MULTILINE)} == never


@pytest.mark.parametrize(
    "each", [each for each in CLOSE_CODES if each.reconnect != "never"], ids=lambda each: each.name
)
def test_the_python_client_waits_as_long_as_the_table_says(each: CloseCode) -> None:
    longest = {"at once": 1.0, "with backoff": 0.1, "with long backoff": 1.0}[each.reconnect]
    shortest = {"at once": 0.0, "with backoff": 0.05, "with long backoff": 0.5}[each.reconnect]
    assert [retry.Retry().pause(each.code, chance) for chance in (0, 1)] == [shortest, longest]


def write() -> None:
    """Write all copies."""
    PYTHON.write_text(python(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
    source = JAVASCRIPT.read_text(encoding="utf-8")
    JAVASCRIPT.write_text(BLOCK.sub(lambda _: javascript(), source), encoding="utf-8")


if __name__ == "__main__":
    write()
