"""Readers whose connection is open to no avail say so, and go on when it works again."""

import asyncio
from collections.abc import Callable

import pytest

from faults.link import Link
from harness import NatsServer, Service, eventually
from harness.amqp import arriving, sizes
from harness.facts import facts

pytestmark = pytest.mark.servers

NOTICED = 15.0  # s


async def test_readers_of_a_link_that_passes_no_answers_are_not_ready_within_15_s(
    nats_server: NatsServer, amqp_url: str, start: Callable[..., Service]
) -> None:
    async with facts(nats_server.url) as published, Link(nats_server.port) as link:
        settings = {
            "CLOUDMATCH_NATS_URL": f"nats://127.0.0.1:{link.port}",
            "CLOUDMATCH_AMQP_URL": amqp_url,
        }
        services = [await asyncio.to_thread(start, name, settings) for name in ("bridge-rabbit", "journal")]
        link.cut(answers_only=True)
        published.payloads(4)
        for each in services:
            await eventually(lambda each=each: each.get("/system/readiness")[0] == 503, NOTICED)
        link.heal()
        async with arriving(amqp_url) as messages:
            await eventually(lambda: sizes(messages) == [4], 20)
        for each in services:
            await asyncio.to_thread(each.wait_ready)
