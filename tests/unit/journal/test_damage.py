"""Whatever happens to one file of the journal, `verify` finds it, or the stream makes it good."""

import asyncio
import contextlib
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.progress import Progress

from cloudmatch_bus.client.follower import Delivery
from cloudmatch_bus.contract.deliveries import Claim, span
from cloudmatch_bus.contract.messages import DeviceConnected
from cloudmatch_journal.core.audit import Finding
from cloudmatch_journal.core.retention import Retention
from cloudmatch_journal.journal import Journal
from cloudmatch_journal.store import Entry, Store
from cloudmatch_journal.verification import Verification
from unit.journal.samples import SIZE, claimed, counted, payload

LAST = 5 * SIZE - 1
FLIPS = 200
NAME = "\N{THERMOMETER}" * 64


def fact(position: int) -> Delivery:
    match position % 4:
        case 0:
            return counted(position, span("a", NAME, 7, position, [4, 5]), span(NAME, "a", 7, position, [6]))
        case 1:
            return claimed(position, Claim("a", "b", 8, position))
        case 2:
            connected = DeviceConnected(
                app="default", at=position, device="a", edge="e", connection_id=position, lat=1, lon=2
            )
            return Delivery(position, connected)
    return payload(position)


STREAM = [fact(position) for position in range(1, LAST + 1)]


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Journal]:
    with contextlib.closing(Store(folder, SIZE)) as store:
        yield Journal(store, SIZE, Retention())


def read(journal: Journal) -> None:
    """Read the stream."""

    async def appended() -> None:
        for each in STREAM:
            await journal.append([each])

    asyncio.run(appended())


def state(journal: Journal) -> tuple[list[Entry], bytes]:
    return list(journal.store.replay(0)), journal.ledger.encode()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[list[Entry], bytes]]:
    """A journal whose first segment was dropped, and what is in it."""
    folder = tmp_path_factory.mktemp("sound")
    with opened(folder) as journal:
        read(journal)
        journal.save()
        journal.store.drop_segments(1)
        journal.save()
        return folder, state(journal)


def flip(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :]


def cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def cut_lines(rng: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    return b"".join(lines[: rng.randrange(len(lines))])


def remove(rng: random.Random, data: bytes) -> bytes:
    begin, end = sorted(rng.sample(range(len(data) + 1), 2))
    return data[:begin] + data[end:]


def remove_line(rng: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def repeat(rng: random.Random, data: bytes) -> bytes:
    begin, end = sorted(rng.sample(range(len(data) + 1), 2))
    return data[:end] + data[begin:]


def repeat_line(rng: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    return b"".join(lines)


def insert(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(rng.randrange(1, 40)) + data[at:]


def swap_lines(rng: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    rng.shuffle(lines)
    return b"".join(lines)


def zero(rng: random.Random, data: bytes) -> bytes:
    begin, end = sorted(rng.sample(range(len(data) + 1), 2))
    return data[:begin] + bytes(end - begin) + data[end:]


def faults(folder: Path) -> list[Finding]:
    with Progress(disable=True) as progress:
        return Verification(folder).check_files(progress)


DAMAGES = (cut, cut_lines, remove, remove_line, repeat, repeat_line, insert, swap_lines, zero)


@pytest.mark.parametrize("damage", [flip, *DAMAGES], ids=lambda each: each.__name__)
def test_every_damage_is_found_or_harmless(
    sound: tuple[Path, tuple[list[Entry], bytes]],
    tmp_path: Path,
    damage: Callable[[random.Random, bytes], bytes],
) -> None:
    whole, before = sound
    assert faults(whole) == []
    names = sorted(path.name for path in whole.iterdir() if path.stat().st_size)
    assert {Path(name).suffix for name in names} == {".jsonl", ".seal", ".json"}
    found = 0
    for seed in range(FLIPS if damage is flip else 40):
        rng = random.Random(seed)  # noqa: S311  # no secret
        name = rng.choice(names)
        data = (whole / name).read_bytes()
        damaged = damage(rng, data)
        folder = tmp_path / str(seed)
        shutil.copytree(whole, folder)
        (folder / name).write_bytes(damaged)
        if damaged != data and faults(folder):
            found += 1
        else:
            with opened(folder) as journal:
                read(journal)
                assert state(journal) == before, (seed, name)
    assert found
