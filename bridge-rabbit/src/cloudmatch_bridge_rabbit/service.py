"""The bridge: read facts from the bus, publish their sizes to RabbitMQ, acknowledge the facts."""

import asyncio

from cloudmatch_bridge_rabbit import dead_letter_queue
from cloudmatch_bridge_rabbit.core.sizes import size_messages
from cloudmatch_bridge_rabbit.publisher import Publisher
from cloudmatch_bridge_rabbit.settings import BridgeSettings
from cloudmatch_bus.client.consumer import Delivery, DurableConsumer
from cloudmatch_bus.client.provision import connected_bus
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process import http
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.listen import listen
from cloudmatch_bus.process.runner import Environment, until_stopped
from cloudmatch_bus.process.settings import AmqpSettings, HttpSettings, variable

NAME = "bridge-rabbit"
GRACE = 1.5  # s after SIGTERM for the confirms of the last batch


async def serve(environment: Environment, stop: asyncio.Event) -> None:
    """Run the bridge until `stop`."""
    settings = environment[BridgeSettings]
    sock = listen(settings.host, settings.port, variable(BridgeSettings, "port"))
    publisher = Publisher(environment[AmqpSettings], settings.plain_queues)
    health = Health()
    health.set_check("stopping", lambda: "stopping" if stop.is_set() else None)
    health.set_check("rabbitmq", publisher.health)

    async def forward(deliveries: list[Delivery]) -> None:
        sizes = [size for position, fact in deliveries for size in size_messages(position, fact)]
        await publisher.publish(sizes)

    origins = environment[HttpSettings].allowed_origins
    app = http.application("CloudMatch bridge to RabbitMQ", health, origins=origins)
    async with asyncio.TaskGroup() as group:
        group.create_task(http.serve(app, NAME, [sock], stop))
        group.create_task(publisher.keep_connected(stop))
        group.create_task(publisher.keep_declared(stop))
        group.create_task(dead_letter_queue.watch(lambda: publisher.connection, stop))
        async with connected_bus(environment[NatsSettings], NAME, health, stop) as bus:
            if bus is not None and await until_stopped(stop, publisher.ready()):
                consumer = DurableConsumer(bus, NAME)
                health.set_check("feed", consumer.health)
                await _finish(asyncio.create_task(consumer.run(forward, stop)), stop)
        await publisher.close()


async def _finish(work: asyncio.Task[None], stop: asyncio.Event) -> None:
    """Await `work`, which ends after `stop`; cancel it when that takes longer than `GRACE`."""
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({work}, timeout=GRACE)
        if work.done():
            await work
    finally:
        stopped.cancel()
        work.cancel()
