"""The tables in the READMEs match the code."""

import re
from pathlib import Path

import pytest

from cloudmatch_bus.contract import subjects

ROOT = Path(__file__).parents[2]


def test_the_subjects_in_the_bus_readme_are_those_of_the_code() -> None:
    table = re.findall(r"^\| `(cm\.v1[^`]*)` \|", (ROOT / "nats/README.md").read_text(), re.MULTILINE)
    words = {
        "<app>": "app",
        "<dev>": "dev",
        "<edge>": "edge",
        "<part>": str(subjects.partition("app", "dev")),
        "<cellpart>": str(subjects.partition("app", "cell")),
        "<match>": "7",
        "<seq>": "3",
        "<shape>": "t4",
        "<kind>": "left",
        "<role>": "worker",
        "<name>": "w1",
    }
    documented = {re.sub(r"<[a-z]+>", lambda m: words[m[0]], subject) for subject in table}
    assert documented == {
        subjects.up("app", "edge", "dev"),
        subjects.up_fallback("app", "edge", "dev"),
        subjects.dn("app", "edge", "dev"),
        subjects.ack_prefix("app", "edge", "dev", 7) + "3.t4",
        subjects.match("app", "cell", "dev"),
        subjects.match_batch(subjects.match_lane("app", "cell"), "edge"),
        subjects.ctl("app", "edge", "dev"),
        subjects.ev("app", "left", "dev"),
        subjects.heartbeat("worker", "w1"),
        subjects.probe("edge"),
        subjects.explain(),
        subjects.cluster(),
        subjects.devices(),
        subjects.device(),
    }


def test_no_subject_is_spelled_outside_the_module_of_subjects() -> None:
    for source in ROOT.glob("*/src/**/*.py"):
        if source.name == "subjects.py":
            continue
        code = re.sub(r'""".*?"""|#.*', "", source.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert "cm.v1" not in code, source


def test_each_difference_from_2019_links_a_test_that_exists() -> None:
    page = ROOT / "docs/differences-from-2019.md"
    rows = [row for row in page.read_text(encoding="utf-8").splitlines() if row.startswith("| ")]
    rows = [row for row in rows if not row.endswith("| test |")]
    assert len(rows) > 50
    for row in rows:
        link = re.search(r'\[test\]\((\S+) "(test_\w+)"\) \|$', row)
        assert link, row
        source = (page.parent / link[1]).read_text(encoding="utf-8")
        assert re.search(rf"^(async )?def {link[2]}\(", source, re.MULTILINE), link[0]


@pytest.mark.parametrize("name", ["README.md", "NOTICE"])
def test_the_differences_from_2019_are_one_link_away(name: str) -> None:
    assert "docs/differences-from-2019.md" in (ROOT / name).read_text(encoding="utf-8")
