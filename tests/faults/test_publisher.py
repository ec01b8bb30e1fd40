"""Facts survive an outage of their publisher's connection."""

import asyncio

import pytest

from harness import NatsServer, eventually
from harness.facts import facts

OUTAGE = 8.0  # s: longer than the publisher waits for acks, and long enough for many retries


@pytest.mark.servers
async def test_facts_are_stored_after_an_outage_in_which_the_connections_buffer_was_full(
    nats_server: NatsServer,
) -> None:
    async with facts(nats_server.url) as published:
        published.payloads(1)
        await published.kept()
        await asyncio.to_thread(nats_server.kill)
        await eventually(lambda: not published.bus.connected)
        while published.bus.publish("t.x", bytes(60_000)):
            pass
        for _ in range(600):
            published.payloads(1)
        await asyncio.sleep(OUTAGE)
        await asyncio.to_thread(nats_server.restart)
        await published.kept()
        state = (await published.bus.jetstream().stream_info("EVENTS")).state
        assert state.messages == 601, "each once"
