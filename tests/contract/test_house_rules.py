"""Rules of CONTRIBUTING that no linter checks."""

import configparser
from pathlib import Path

import coverage_by_module

ROOT = Path(__file__).parents[2]
MOST_LINES = 400
ONE_FILE = {"cloudmatch.js", "cloudmatch.d.ts"}  # ship as one file, without a build step
NOT_OURS = {".venv", ".run", ".git", "vendor"}
SOURCES = {".py", ".js", ".mjs", ".ts", ".c", ".h", ".sh", ".css", ".html"}


def test_no_source_file_has_more_than_400_lines() -> None:
    files = [file for top in ROOT.iterdir() if top.name not in NOT_OURS for file in top.rglob("*")]
    sources = [
        file
        for file in files
        if file.suffix in SOURCES and not NOT_OURS & set(file.parts) and file.name not in ONE_FILE
    ]
    assert len(sources) > 200
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in sources}
    assert {str(file): lines for file, lines in lengths.items() if lines > MOST_LINES} == {}


def test_coverage_is_measured_of_exactly_those_packages_that_may_touch_nothing() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter", encoding="utf-8")
    pure = contracts["importlinter:contract:pure"]["source_modules"].split()
    assert [package for _, *packages in coverage_by_module.PURE.values() for package in packages] == pure
