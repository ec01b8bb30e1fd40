"""The journal's place in the stream, when facts or the stream itself were lost meanwhile."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.js.errors import NotFoundError
from rich.progress import Progress

from cloudmatch_bus.client import stream_config
from cloudmatch_bus.client.connection import connect
from cloudmatch_bus.client.history import position_range
from cloudmatch_bus.client.provision import provision
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract import streams
from cloudmatch_bus.process.health import Health
from cloudmatch_journal.journal import Journal
from cloudmatch_journal.store import Store
from cloudmatch_journal.verification import Verification
from harness import NatsServer, eventually
from harness.facts import Facts, facts

pytestmark = pytest.mark.servers

SIZE = 7  # facts in a segment


@contextlib.asynccontextmanager
async def running(folder: Path, url: str, health: Health | None = None) -> AsyncIterator[Journal]:
    """Run a journal without its process."""
    stop = asyncio.Event()
    store = Store(folder, SIZE)
    journal = Journal(store, SIZE)
    bus = await connect(NatsSettings(url=url), "journal")
    work = asyncio.create_task(journal.run(bus, health or Health(), stop))
    try:
        yield journal
        assert not work.done()
    finally:
        stop.set()
        await work
        journal.save()
        store.close()
        await bus.close()


async def payloads(bus: Facts, count: int) -> None:
    """Publish facts of one payload of one byte each."""
    for _ in range(count):
        bus.payloads(1)
    await bus.kept()


async def replace(bus: Facts, first: int, kept: int = 0) -> None:
    """Delete EVENTS and create it with this first sequence; it has the first messages that were in it."""
    jetstream = bus.bus.jetstream()
    oldest, _ = await position_range(bus.bus)
    messages = [await jetstream.get_msg(streams.EVENTS, oldest + number) for number in range(kept)]
    await jetstream.delete_stream(streams.EVENTS)
    config = stream_config.events(1)
    config.first_seq = first
    await jetstream.add_stream(config)
    for message in messages:
        await jetstream.publish(message.subject or "", message.data or b"")
    await provision(bus.bus, 1)


def sent(journal: Journal) -> int:
    state = journal.ledger.device("default", "a")
    return 0 if state is None else state.bytes_sent


def losses(journal: Journal) -> list[tuple[str, int | None]]:
    """Reasons and amounts of what is lost."""
    shown = [fact for _, fact in journal.store.read(0, 1000, kind="lost").entries]
    known = [(each.reason, each.missing) for each in journal.ledger.losses]
    assert [(each.reason, each.missing) for each in shown] == known  # type: ignore[union-attr]
    return known


async def has(journal: Journal, count: int, lost: int) -> None:
    """Wait until so many payloads and losses are known."""
    await eventually(lambda: (sent(journal), len(journal.ledger.losses)) == (count, lost), 10)


async def agrees(folder: Path, bus: Facts) -> None:
    """Verify the journal against the stream."""
    verification = Verification(folder)
    with Progress(disable=True) as progress:
        assert verification.check_files(progress) == []
        assert await verification.compare_with_stream(bus.bus, progress) == []


@pytest.mark.parametrize(
    ("grown", "stopped"),
    [(0, True), (3, True), (40, True), (3, False)],
    ids=["no new facts", "some", "beyond the journal's place", "while the journal runs"],
)
async def test_facts_are_kept_after_the_stream_was_restored_from_an_older_copy(
    nats_server: NatsServer, tmp_path: Path, grown: int, stopped: bool
) -> None:
    async with facts(nats_server.url) as bus:
        first, _ = await position_range(bus.bus)
        async with running(tmp_path, nats_server.url) as journal:
            await payloads(bus, 20)
            await has(journal, 20, 0)
            position = journal.store.position
            if not stopped:
                await replace(bus, first, kept=10)
                await payloads(bus, grown)
                await has(journal, 20 + grown, 1)
        if stopped:
            await replace(bus, first, kept=10)
            await payloads(bus, grown)
        async with running(tmp_path, nats_server.url) as journal:
            await has(journal, 20 + grown, 1)
            await payloads(bus, 2)
            await has(journal, 22 + grown, 1)
            assert losses(journal) == [("restored", None)]
            positions = [each for each, _ in journal.store.read(0, 1000).entries]
            assert positions == sorted(set(positions))
            assert positions[20] > position == positions[19]
        await agrees(tmp_path, bus)
        async with running(tmp_path, nats_server.url) as journal:
            await payloads(bus, 3)
            await has(journal, 25 + grown, 1)
        await agrees(tmp_path, bus)


@pytest.mark.parametrize("later", [1, 10**9, -(10**9)], ids=["next", "clock ahead", "clock behind"])
async def test_facts_are_kept_after_the_stream_was_created_again(
    nats_server: NatsServer, tmp_path: Path, later: int
) -> None:
    async with facts(nats_server.url) as bus:
        async with running(tmp_path, nats_server.url) as journal:
            await payloads(bus, 20)
            await has(journal, 20, 0)
        await replace(bus, journal.store.position + later)
        async with running(tmp_path, nats_server.url) as journal:
            await payloads(bus, 5)
            await has(journal, 25, 0 if later == 1 else 1)
            assert losses(journal) == ([] if later == 1 else [("created", None)])
        await agrees(tmp_path, bus)


async def test_facts_that_left_the_stream_before_they_were_read_are_a_fact(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with facts(nats_server.url) as bus:
        async with running(tmp_path, nats_server.url) as journal:
            await payloads(bus, 20)
            await has(journal, 20, 0)
        await payloads(bus, 20)
        _, last = await position_range(bus.bus)
        await bus.bus.jetstream().purge_stream(streams.EVENTS, seq=last - 4)
        for _ in range(2):
            async with running(tmp_path, nats_server.url) as journal:
                await has(journal, 25, 1)
                assert losses(journal) == [("expired", 15)]
            await agrees(tmp_path, bus)


async def test_a_damaged_part_of_the_journal_is_a_fact(nats_server: NatsServer, tmp_path: Path) -> None:
    async with facts(nats_server.url) as bus:
        async with running(tmp_path, nats_server.url) as journal:
            await payloads(bus, 5)
            await has(journal, 5, 0)
        (segment,) = tmp_path.glob("*.jsonl")  # noqa: ASYNC240  # a temporary folder
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 1
        segment.write_bytes(data)
        for _ in range(2):
            async with running(tmp_path, nats_server.url) as journal:
                await has(journal, 5, 1)  # the snapshot knows what was in it
                assert losses(journal) == [("damaged", None)]


async def test_a_journal_goes_on_when_its_consumer_is_deleted(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with facts(nats_server.url) as bus, running(tmp_path, nats_server.url) as journal:
        jetstream = bus.bus.jetstream()
        await payloads(bus, 5)
        await has(journal, 5, 0)
        for consumer in await jetstream.consumers_info(streams.EVENTS):
            if consumer.name.startswith("journal"):
                await jetstream.delete_consumer(streams.EVENTS, consumer.name)
        await payloads(bus, 5)
        await has(journal, 10, 0)
        assert losses(journal) == []


async def test_a_journal_is_not_ready_while_nats_stands_still_or_has_no_stream(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    health = Health()
    async with facts(nats_server.url) as bus, running(tmp_path, nats_server.url, health) as journal:
        await payloads(bus, 5)
        await has(journal, 5, 0)
        await eventually(lambda: not health.reasons())
        await bus.bus.jetstream().delete_stream(streams.EVENTS)
        assert await eventually(lambda: health.reasons(), 15)
        with pytest.raises(NotFoundError):
            await bus.bus.jetstream().stream_info(streams.EVENTS)
        await provision(bus.bus, 1)
        await payloads(bus, 5)
        await has(journal, 10, 1)
        assert b"facts are lost, 1 times" in health.readiness()[1]
        await eventually(lambda: not health.reasons())
        os.kill(nats_server.process.pid, signal.SIGSTOP)
        try:
            assert await eventually(lambda: health.reasons(), 15)
        finally:
            os.kill(nats_server.process.pid, signal.SIGCONT)
        await eventually(lambda: not health.reasons(), 15)
        await payloads(bus, 5)
        await has(journal, 15, 1)
