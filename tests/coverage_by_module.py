"""Branch coverage of the pure packages, each module by its own test file: ``make coverage``.

The own tests of module ``window`` in room ``edge`` are ``tests/unit/edge/test_window.py``, and parts of it
such as ``test_window_sizes.py``, unless that is another module; they alone must reach every line and branch
of it. Names of rooms or modules narrow the run. With ``--all``, all unit tests of the rooms run as well
(minutes), and another column shows what they reach together. The exit code is 1 below 100 %, and pytest's
when a test fails.
"""

import argparse
import importlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import coverage
import pytest
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
UNIT = Path("tests/unit")

# room, as its folder of tests is called → its sources and its pure package
PURE = {
    "bus": ("nats/src", "cloudmatch_bus.contract"),
    "edge": ("edge/src", "cloudmatch_edge.admission", "cloudmatch_edge.dialects", "cloudmatch_edge.relay"),
    "match_engine": ("match-engine/src", "cloudmatch_match_engine.core"),
    "journal": ("journal/src", "cloudmatch_journal.core"),
    "bridge_rabbit": ("bridge-rabbit/src", "cloudmatch_bridge_rabbit.core"),
    "analytics": ("analytics/src", "cloudmatch_analytics.core"),
    "client_python": ("edge/clients/python/src", "cloudmatch.core"),
}


class Module(NamedTuple):
    """A pure module and its own tests."""

    room: str
    name: str
    package: str
    source: Path

    @property
    def tests(self) -> list[Path]:
        """The test files named like the module, relative to the root."""
        folder = ROOT / UNIT / self.room
        found = [folder / f"test_{self.name}.py", *folder.glob(f"test_{self.name}_*.py")]
        longer = [
            f"test_{m.name}" for m in pure_modules() if m.room == self.room and len(m.name) > len(self.name)
        ]
        return [
            each.relative_to(ROOT)
            for each in sorted(found)
            if each.exists() and not any(f"{each.stem}_".startswith(f"{name}_") for name in longer)
        ]


class Reach(NamedTuple):
    """What tests reached of a module."""

    statements: int
    branches: int
    percent: float
    missing: str  # "12 40->52": lines, and branches from a line that ran


def pure_modules() -> Iterator[Module]:
    """Yield every module of the pure packages that has code."""
    for room, (sources, *packages) in PURE.items():
        for package in packages:
            folder = ROOT / sources / package.replace(".", "/")
            for file in sorted(folder.rglob("*.py")):
                if file.name != "__init__.py":
                    inner = ".".join(file.relative_to(folder).with_suffix("").parts)
                    yield Module(room, inner.replace(".", "_"), f"{package}.{inner}", file)


class ContextPerFile:
    """A pytest plugin that attributes what runs to the test file that runs it."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self._measured = measured

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Iterator[None]:
        """Code that a test file runs while it is imported is its own, too."""
        if isinstance(collector, pytest.Module):
            return (yield from self._attribute(collector.path))
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Fixtures count as well."""
        return (yield from self._attribute(item.path))

    def _attribute(self, file: Path) -> Iterator[None]:
        self._measured.switch_context(str(file.relative_to(ROOT)))
        try:
            return (yield)
        finally:
            self._measured.switch_context("")


def reach(measured: coverage.Coverage, module: Module, contexts: list[str] | None) -> Reach:
    """Give what the tests of these contexts (None: all) reached of a module."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        measured.json_report(morfs=[str(module.source)], outfile=file.name, contexts=contexts)
        report: dict[str, Any] = json.load(file)
    (found,) = report["files"].values()
    summary = found["summary"]
    lines = set(found["missing_lines"])
    branches = [f"{start}->{end}" for start, end in found["missing_branches"] if not {start, end} & lines]
    missing = " ".join([*map(str, sorted(lines)), *branches])
    return Reach(summary["num_statements"], summary["num_branches"], summary["percent_covered"], missing)


def run(modules: list[Module], tests: list[str]) -> tuple[int, coverage.Coverage]:
    """Run tests; give pytest's exit code and what was measured."""
    measured = coverage.Coverage(data_file=None, branch=True, include=[str(m.source) for m in modules])
    measured.start()
    for module in modules:  # what an import runs is attributed to no test file
        importlib.import_module(module.package)
    # The same examples every time, so that a branch is reached always or never.
    options = ["-q", "-r", "fE", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
    code = pytest.main([*options, *tests], [ContextPerFile(measured)]) if tests else 0
    measured.stop()
    return code, measured


def table(modules: list[Module], measured: coverage.Coverage, *, together: bool) -> tuple[Table, bool]:
    """Give one row for each module, and whether each is covered by its own tests."""
    shown = Table("module", "statements", "branches", "own tests", "not reached by them")
    if together:
        shown.add_column("all unit tests")
    complete = True
    for module in modules:
        tested = module.tests
        own = reach(measured, module, ["^$", *(f"^{each}$" for each in tested)])
        complete &= bool(tested) and not own.missing
        share = f"{own.percent:.0f} %" if tested else "none"
        gaps = own.missing if tested else f"test_{module.name}.py is missing"
        row = [module.package, str(own.statements), str(own.branches), share, gaps]
        if together:
            row.append(f"{reach(measured, module, None).percent:.0f} %")
        shown.add_row(*row)
    return shown, complete


def chosen(names: list[str]) -> list[Module]:
    """Give the modules that are named: ``edge``, ``edge/window``, ``window``; all without a name.

    Raises:
        SystemExit: nothing has such a name.
    """
    modules = list(pure_modules())
    names = [name.replace("-", "_") for name in names]
    for name in names:
        if not any(name in _names(module) for module in modules):
            sys.exit(f"{name} is neither a room ({', '.join(PURE)}) nor a pure module")
    return [module for module in modules if not names or set(names) & set(_names(module))]


def _names(module: Module) -> tuple[str, ...]:
    return module.room, module.name, f"{module.room}/{module.name}", module.package


def main() -> None:
    """Measure, print the table, and exit with 1 below 100 %."""
    parser = argparse.ArgumentParser(prog="coverage_by_module", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="ROOM|MODULE", help="what to measure")
    parser.add_argument("--all", action="store_true", help="run all unit tests of the rooms as well")
    arguments = parser.parse_args()
    modules = chosen(arguments.names)
    files = dict.fromkeys(str(file) for each in modules for file in each.tests)
    folders = dict.fromkeys(str(UNIT / each.room) for each in modules) if arguments.all else {}
    code, measured = run(modules, [*files, *folders])
    shown, complete = table(modules, measured, together=arguments.all)
    Console(width=None if sys.stdout.isatty() else 150).print(shown)
    sys.exit(code or not complete)


if __name__ == "__main__":
    main()
