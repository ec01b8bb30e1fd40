"""The bridge's process: facts from the bus, their sizes to RabbitMQ, then the ack."""

import asyncio
import logging

from cloudmatch_bridge_rabbit.core.sizes import sizes
from cloudmatch_bridge_rabbit.publisher import Rabbit
from cloudmatch_bridge_rabbit.settings import BridgeSettings
from cloudmatch_bus.client.consumer import Delivery, DurableConsumer
from cloudmatch_bus.client.provision import connected_bus
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process import http
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.listen import listen
from cloudmatch_bus.process.runner import Environment, until_stopped
from cloudmatch_bus.process.settings import AmqpSettings, HttpSettings, variable

log = logging.getLogger("bridge")

NAME = "bridge-rabbit"
GRACE = 1.5  # s for the confirms of the last batch after SIGTERM


async def _until(stop: asyncio.Event, work: asyncio.Task[None]) -> None:
    """Await `work`, which ends by itself after `stop`; end it when it takes too long."""
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({work}, timeout=GRACE)
        if work.done():
            await work
    finally:
        stopped.cancel()
        work.cancel()


async def serve(environment: Environment, stop: asyncio.Event) -> None:
    """Run the bridge until `stop`."""
    settings = environment[BridgeSettings]
    sock = listen(settings.host, settings.port, variable(BridgeSettings, "port"))
    rabbit = Rabbit(environment[AmqpSettings])
    health = Health()
    health.check("stopping", lambda: "stopping" if stop.is_set() else None)
    health.check("rabbitmq", rabbit.health)

    async def forward(deliveries: list[Delivery]) -> None:
        await rabbit.publish([size for position, fact in deliveries for size in sizes(position, fact)])

    origins = environment[HttpSettings].allowed
    app = http.application("CloudMatch bridge to RabbitMQ", health, origins=origins)
    async with asyncio.TaskGroup() as group:
        group.create_task(http.serve(app, NAME, sock, stop))
        group.create_task(rabbit.keep(stop))
        group.create_task(rabbit.count_dead(stop))
        async with connected_bus(environment[NatsSettings], NAME, health, stop) as bus:
            if bus is not None and await until_stopped(stop, rabbit.ready()):
                feed = DurableConsumer(bus, NAME)
                health.check("feed", feed.health)
                await _until(stop, asyncio.create_task(feed.run(forward, stop)))
        await rabbit.close()
