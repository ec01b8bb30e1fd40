"""Tests of bench and harness are skipped only while all that they rest on is as when they passed."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import unchanged
from harness.unchanged import OPTIONAL, Unchanged

FILE = "tests/integration/test_bench.py"


class Item:
    """A test that pytest has collected."""

    def __init__(self, nodeid: str) -> None:
        self.nodeid = nodeid
        self.skipped = ""

    def add_marker(self, mark: pytest.MarkDecorator) -> None:
        self.skipped = mark.kwargs["reason"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one such test file, which rests on the folder tests/bench."""
    for name in (FILE, "tests/bench/load.c", "tests/bench/README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(unchanged, "ROOT", tmp_path)
    monkeypatch.setattr(unchanged, "PASSED", tmp_path / "tests/passed.txt")
    monkeypatch.setattr(unchanged, "RESTS_ON", {FILE: ("tests/bench",)})
    monkeypatch.delenv("CI", raising=False)
    return tmp_path


def plugin(*args: str, run_all: bool = False, worker: bool = False) -> Unchanged:
    options = {"all": run_all, "lf": False}
    config = SimpleNamespace(
        args=args,
        args_source=pytest.Config.ArgsSource.ARGS if args else pytest.Config.ArgsSource.TESTPATHS,
        option=SimpleNamespace(**options),
        getoption=lambda name, _: options[name],
    )
    if worker:
        config.workeroutput = {}
    return Unchanged(config)  # type: ignore[arg-type]  # as much of one as is asked for


def skipped(*args: str, run_all: bool = False) -> bool:
    """Whether a new session skips the test."""
    item = Item(f"{FILE}::test_a")
    plugin(*args, run_all=run_all).pytest_collection_modifyitems([item])  # type: ignore[list-item]  # the same
    assert item.skipped in ("", "it and what it rests on are as when it passed: make test-all runs it")
    return bool(item.skipped)


def report(outcome: str, when: str = "call", why: str = "") -> pytest.TestReport:
    return pytest.TestReport(f"{FILE}::test_a", ("", 0, ""), {}, outcome, why, when)  # type: ignore[arg-type]  # str


def run(*reports: pytest.TestReport, exitstatus: int = 0, args: tuple[str, ...] = ()) -> None:
    """A session with these reports, to its end."""
    session = plugin(*args)
    for each in reports:
        session.pytest_runtest_logreport(each)
    session.pytest_sessionfinish(exitstatus)


def test_what_has_never_passed_runs(root: Path) -> None:
    assert not skipped()


def test_what_has_passed_is_skipped_and_the_skip_says_how_to_run_it(root: Path) -> None:
    run(report("passed"))
    assert skipped()


def test_what_has_passed_runs_with_all_and_where_its_file_is_named(root: Path) -> None:
    run(report("passed"))
    assert not skipped(run_all=True)
    assert not skipped(str(root / FILE))
    assert not skipped(f"{root / FILE}::test_a")


@pytest.mark.parametrize("changed", [FILE, "tests/bench/load.c", "tests/bench/new.py"])
def test_a_change_of_it_or_of_what_it_rests_on_makes_it_run_until_it_passes(root: Path, changed: str) -> None:
    run(report("passed"))
    (root / changed).write_text("changed")
    assert not skipped()
    run(report("passed"))
    assert skipped()


def test_a_file_that_is_gone_or_renamed_makes_it_run(root: Path) -> None:
    run(report("passed"))
    (root / "tests/bench/load.c").rename(root / "tests/bench/loads.c")
    assert not skipped()


def test_documents_do_not_count(root: Path) -> None:
    run(report("passed"))
    (root / "tests/bench/README.md").write_text("changed")
    assert skipped()


@pytest.mark.parametrize(
    "reports",
    [
        pytest.param([report("passed"), report("failed")], id="a test failed"),
        pytest.param([report("passed"), report("failed", "teardown")], id="a teardown failed"),
        pytest.param(
            [report("passed"), report("skipped", "setup", "no compiler")], id="a test could not run"
        ),
        pytest.param([report("skipped", "setup", "no compiler")], id="no test could run"),
    ],
)
def test_what_did_not_pass_completely_is_not_remembered(root: Path, reports: list[pytest.TestReport]) -> None:
    run(*reports)
    assert not skipped()


def test_a_peer_that_only_the_bench_installs_may_be_missing(root: Path) -> None:
    run(report("passed"), report("skipped", "setup", f"redis is not installed: {OPTIONAL}"))
    assert skipped()


def test_what_changes_while_it_runs_is_not_remembered(root: Path) -> None:
    session = plugin()
    session.pytest_runtest_logreport(report("passed"))
    (root / "tests/bench/load.c").write_text("changed")
    session.pytest_sessionfinish(0)
    assert not skipped()


def test_an_interrupted_run_is_not_remembered(root: Path) -> None:
    run(report("passed"), exitstatus=2)
    assert not skipped()


@pytest.mark.parametrize("named", [FILE, f"{FILE}::test_a", "tests/integration"])
def test_only_a_run_of_everything_is_remembered(root: Path, named: str) -> None:
    run(report("passed"), args=(named,))
    assert not skipped()


def test_where_ci_is_set_nothing_is_remembered(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    run(report("passed"))
    assert not skipped()


@pytest.mark.parametrize("crashed", [False, True])
def test_what_a_worker_left_out_or_might_have_is_not_remembered(root: Path, crashed: bool) -> None:
    worker, controller = plugin(worker=True), plugin()
    worker.pytest_deselected([Item(f"{FILE}::test_b")])  # type: ignore[list-item]  # as above
    worker.pytest_sessionfinish(0)
    controller.pytest_runtest_logreport(report("passed"))
    output = {} if crashed else {"workeroutput": worker._config.workeroutput}  # type: ignore[attr-defined]  # of xdist
    controller.pytest_testnodedown(SimpleNamespace(**output))
    controller.pytest_sessionfinish(0)
    assert not skipped()
