"""Facts survive what befalls the connection of who publishes them."""

import asyncio

import pytest

from harness import NatsServer, eventually
from harness.facts import facts

OUTAGE = 8.0  # s: longer than the publisher waits for acks, and long enough to try many times again


@pytest.mark.servers
async def test_facts_are_kept_after_an_outage_in_which_the_connections_buffer_was_full(
    nats_server: NatsServer,
) -> None:
    async with facts(nats_server.url) as told:
        told.payloads(1)
        await told.kept()
        await asyncio.to_thread(nats_server.kill)
        await eventually(lambda: not told.bus.connected)
        while told.bus.publish("frames", bytes(60_000)):
            pass
        for _ in range(600):
            told.payloads(1)
        await asyncio.sleep(OUTAGE)
        await asyncio.to_thread(nats_server.restart)
        await told.kept()
        state = (await told.bus.jetstream().stream_info("EVENTS")).state
        assert state.messages == 601, "each once"
