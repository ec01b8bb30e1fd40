"""Skip the tests of the bench and of the harness while they, and what they rest on, are as when they passed.

They test no service, and take minutes. `tests/passed.txt` names each of their files with a checksum of all
that it rests on, as it was when its tests passed; a complete run without failures updates it, and it is
committed with the change. So a clean clone knows it, too, and no change goes untested: with another
checksum, or none, they run. They also run with ``--all`` (`make test-all`), and where the command line names
their file.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from harness.processes import ROOT

PASSED = ROOT / "tests/passed.txt"
OPTIONAL = "make bench installs it"  # ends the reason of a skip that leaves nothing of ours untested

_HARNESS = ("tests/conftest.py", "tests/harness", "requirements.txt")
_BENCH = (*_HARNESS, "tests/bench", "tests/integration/conftest.py")
_SERVERS = (*_HARNESS, "deploy/local/cloudmatch_local", "nats/server.conf")

# file with tests → what it rests on besides itself, files and folders
RESTS_ON = {
    "tests/integration/test_bench.py": _BENCH,
    "tests/integration/test_bench_dialects.py": _BENCH,
    "tests/integration/test_bench_facts.py": _BENCH,
    "tests/integration/test_harness.py": _SERVERS,
    "tests/integration/test_workers.py": _HARNESS,
}

_NO_SOURCES = {".md", ".pyc", ".svg"}


def checksum(paths: list[Path]) -> str:
    """Checksum of these files and of those in these folders, names and contents; not of documents."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix not in _NO_SOURCES:
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                digest.update(f"{file.relative_to(ROOT)} {content}\n".encode())
    return digest.hexdigest()[:32]


def _now(file: str) -> str:
    return checksum([ROOT / path for path in (file, *RESTS_ON[file])])


def _passed() -> dict[str, str]:
    """Checksum by file, as last written."""
    lines = PASSED.read_text().splitlines() if PASSED.exists() else []
    return {file: sum_ for sum_, _, file in (line.partition("  ") for line in lines) if file in RESTS_ON}


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


class Unchanged:
    """Skips what has not changed; remembers what has passed."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        named = {Path(_file(arg)).resolve() for arg in config.args}
        self._named = {file for file in RESTS_ON if ROOT / file in named}
        self._sums = {file: _now(file) for file in RESTS_ON}  # of what is about to be tested
        self._seen: set[str] = set()  # files of which a test ran
        # files of which a test failed, was left out, or could not run here
        self._incomplete: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._config.option.all:
            return
        passed = _passed()
        same = {file for file, sum_ in self._sums.items() if passed.get(file) == sum_} - self._named
        reason = "it and what it rests on are as when it passed: make test-all runs it"
        for item in items:
            if _file(item.nodeid) in same:
                item.add_marker(pytest.mark.skip(reason=reason))

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self._incomplete |= {_file(item.nodeid) for item in items}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file = _file(report.nodeid)
        if report.when == "call" and report.passed:
            self._seen.add(file)
        elif not report.passed and OPTIONAL not in str(report.longrepr):
            self._incomplete.add(file)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Get from a worker of pytest-xdist what it left out."""
        self._incomplete |= set(getattr(node, "workeroutput", {}).get("incomplete", RESTS_ON))

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput["incomplete"] = list(self._incomplete)
        elif exitstatus == 0 and self._complete and not os.environ.get("CI"):
            self._remember(self._seen - self._incomplete)

    @property
    def _complete(self) -> bool:
        """Whether the command line names no file, nor asks for the last failures only."""
        named = self._config.args_source is pytest.Config.ArgsSource.ARGS
        return not named and not self._config.getoption("lf", False)

    def _remember(self, files: set[str]) -> None:
        new = {file: sum_ for file, sum_ in self._sums.items() if file in files and sum_ == _now(file)}
        if new:
            passed = _passed() | new
            PASSED.write_text("".join(f"{passed[file]}  {file}\n" for file in sorted(passed)))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let all tests run."""
    text = "also the tests of the bench and of the harness that have passed and not changed since"
    parser.getgroup("cloudmatch").addoption("--all", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Skip, and remember."""
    config.pluginmanager.register(Unchanged(config), "unchanged")
