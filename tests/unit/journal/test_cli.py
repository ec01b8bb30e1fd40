"""The commands on the journal's folder, without a bus."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cloudmatch_bus.contract.deliveries import Claim, span
from cloudmatch_bus.contract.messages import AnyFact, MatchMade, PayloadsDelivered
from cloudmatch_journal.__main__ import command
from cloudmatch_journal.store import Store
from unit.journal.samples import claimed, counted

SIZE = 4
Run = Callable[..., Result]


def fact(position: int) -> AnyFact:
    if position % 3 == 0:
        return MatchMade(app="x", at=position * 1000, match=1, device="c", peer="d", distance=0)
    return PayloadsDelivered(app="y", at=position * 1000, match=1, sender="a", receiver="b", sizes=[4])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A journal of ten events, open as in a running service."""
    store = Store(tmp_path / "journal", SIZE)
    for position in range(1, 11):
        store.append([(position, fact(position))])
    yield store
    store.close()


@pytest.fixture
def command_line(store: Store, tmp_path: Path) -> Run:
    env = {"CLOUDMATCH_RUN_DIR": str(tmp_path), "CLOUDMATCH_JOURNAL_FOLDER": ""}
    return lambda *arguments: CliRunner(env=env).invoke(command, arguments)


def positions(text: str) -> list[int]:
    return [json.loads(line)["position"] for line in text.splitlines()]


def test_export_writes_every_event_as_a_line_while_the_journal_is_open(command_line: Run) -> None:
    result = command_line("export")
    assert result.exit_code == 0
    assert positions(result.stdout) == list(range(1, 11))
    assert json.loads(result.stdout.splitlines()[0]) == {
        "position": 1,
        "type": "delivered",
        "app": "y",
        "at": 1000,
        "match": 1,
        "sender": "a",
        "receiver": "b",
        "sizes": [4],
    }
    assert result.stderr == "10 events\n"


@pytest.mark.parametrize(
    ("options", "selected"),
    [
        (["--after", "8"], [9, 10]),
        (["--until", "2"], [1, 2]),
        (["--after", "1970-01-01T00:00:03Z", "--until", "1970-01-01T00:00:05Z"], [4, 5]),
        (["--type", "matched"], [3, 6, 9]),
        (["--app", "x", "--after", "3"], [6, 9]),
        (["--device", "d"], [3, 6, 9]),
        (["--device", "d", "--app", "y"], []),
    ],
)
def test_export_writes_only_selected_events(
    command_line: Run, options: list[str], selected: list[int]
) -> None:
    assert positions(command_line("export", *options).stdout) == selected


def test_export_writes_each_span_and_claim_as_an_event(command_line: Run, store: Store) -> None:
    spans = [span("a", "b", 7, 0, [4, 4]), span("c", "d", 8, 0, [6])]
    store.append([counted(11, *spans), claimed(12, Claim("c", "d", 8, 5, spans[1]))])
    result = command_line("export", "--after", "10")
    first = {"position": 11, "type": "delivered", "app": "default", "at": 11, "match": 7}
    third = {"position": 12, "type": "claimed", "app": "default", "at": 12, "match": 8, "delivered": 5}
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {**first, "sender": "a", "receiver": "b", "sizes": [4, 4]},
        {**first, "match": 8, "sender": "c", "receiver": "d", "sizes": [6]},
        {**third, "sender": "c", "receiver": "d", "sizes": [6]},
    ]
    assert result.stderr == "3 events\n"
    lines = command_line("export", "--after", "10", "--type", "delivered", "--device", "c").stdout
    assert [json.loads(line)["sizes"] for line in lines.splitlines()] == [[6]]


def test_export_refuses_a_moment_that_is_neither_position_nor_time(command_line: Run) -> None:
    result = command_line("export", "--after", "yesterday")
    assert result.exit_code == 2
    assert "neither a position nor a time" in result.stderr


def test_an_exported_file_is_complete_or_absent(command_line: Run, store: Store, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    assert command_line("export", "--output", str(file)).exit_code == 0
    assert positions(file.read_text()) == list(range(1, 11))
    file.unlink()
    damage(tmp_path, 5)
    assert command_line("export", "--output", str(file)).exit_code == 1
    assert list(tmp_path.glob("events*")) == []


def test_export_omits_an_incomplete_line(command_line: Run, tmp_path: Path) -> None:
    with segment(tmp_path, 9).open("ab") as growing:
        growing.write(b'{"position":11,"ty')
    assert positions(command_line("export").stdout) == list(range(1, 11))


def test_export_names_a_damaged_segment(command_line: Run, tmp_path: Path) -> None:
    damage(tmp_path, 5)
    result = command_line("export")
    assert result.exit_code == 1
    assert segment(tmp_path, 5).name in result.stderr


def test_without_a_journal_the_commands_name_the_folder(tmp_path: Path) -> None:
    for name in ("export", "verify"):
        result = CliRunner(env={"CLOUDMATCH_RUN_DIR": str(tmp_path / "none")}).invoke(command, [name])
        assert result.exit_code == 2
        assert "no journal in" in result.stderr
        assert not (tmp_path / "none").exists()


def test_verify_finds_no_fault_in_a_journal_in_order(command_line: Run) -> None:
    result = command_line("verify", "--offline")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "10 events in 3 segments" in result.stderr


def test_verify_names_each_fault_in_the_segments(command_line: Run, tmp_path: Path) -> None:
    damage(tmp_path, 1)
    growing = segment(tmp_path, 9)
    growing.write_bytes(growing.read_bytes() * 2)
    result = command_line("verify", "--offline")
    assert result.exit_code == 1
    found = [
        (*line.split("  position ")[0].split(), *line.split()[-2:]) for line in result.stdout.splitlines()
    ]
    assert found == [
        ("damaged", "0", segment(tmp_path, 1).name),
        *(("duplicate", position, growing.name) for position in ("9", "10")),
        ("missing", "2", segment(tmp_path, 1).name),
        ("missing", "4", segment(tmp_path, 5).name),
    ]
    assert "1 damaged, 2 duplicate, 2 missing" in result.stderr


def test_verify_without_a_bus_fails_with_its_own_exit_status(
    command_line: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr("cloudmatch_journal.cli.connect", unreachable)
    result = command_line("verify")
    assert result.exit_code == 2
    assert "NATS does not answer" in result.stderr


def segment(tmp_path: Path, first: int) -> Path:
    return tmp_path / "journal" / f"events-{first:020d}.jsonl"


def damage(tmp_path: Path, first: int) -> None:
    path = segment(tmp_path, first)
    path.write_bytes(path.read_bytes().replace(b"[4]", b"[5]"))
