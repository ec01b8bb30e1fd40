"""The bridge: read facts from the bus, publish what they count to RabbitMQ, acknowledge the facts."""

import asyncio

from aio_pika.abc import AbstractConnection
from prometheus_client import Counter

from cloudmatch_bridge_rabbit import dead_letter_queue, set_aside, singles
from cloudmatch_bridge_rabbit.core import batches
from cloudmatch_bridge_rabbit.core.sizes import payloads
from cloudmatch_bridge_rabbit.publisher import Publisher
from cloudmatch_bridge_rabbit.settings import BridgeSettings
from cloudmatch_bridge_rabbit.singles import SinglesBridge
from cloudmatch_bus.client.consumer import DurableConsumer, Held
from cloudmatch_bus.client.provision import connected_bus
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract import amqp, amqp_batches, amqp_forgotten, amqp_set_aside
from cloudmatch_bus.process import http
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.listen import listen
from cloudmatch_bus.process.runner import Environment, until_stopped
from cloudmatch_bus.process.settings import AmqpSettings, HttpSettings, variable

NAME = "bridge-rabbit"
LINGER = 0.1  # s after a few facts: published one by one they cost twice as much, here and in RabbitMQ
GRACE = 1.5  # s after SIGTERM for the confirms of the last batch

_batches = Counter("cloudmatch_bridge_rabbit_batches", "Batches of sizes confirmed by RabbitMQ")
_confirmed = Counter("cloudmatch_bridge_rabbit_confirmed", "Sizes in these batches")


async def serve(environment: Environment, stop: asyncio.Event) -> None:
    """Run the bridge until `stop`."""
    settings, rabbit = environment[BridgeSettings], environment[AmqpSettings]
    sock = listen(settings.host, settings.port, variable(BridgeSettings, "port"))

    async def declare(connection: AbstractConnection) -> None:
        async with connection.channel() as channel:
            await amqp_batches.declare(channel, rabbit.queue_type)
            await amqp_forgotten.declare(channel, rabbit.queue_type)
            await amqp.declare(channel, rabbit.queue_type)
            await amqp_set_aside.declare(channel, rabbit.queue_type)

    publisher = Publisher(rabbit, declare, _batches)
    health = Health()
    health.set_check("stopping", lambda: "stopping" if stop.is_set() else None)
    health.set_check("rabbitmq", publisher.health)

    async def forward(facts: list[Held]) -> None:
        messages = [
            message
            for position, fact, payload, *_ in facts
            if (message := batches.batch(position, fact, payload)) is not None
        ]
        await publisher.publish(lambda channel, most: batches.blocks(messages, channel, most))
        _confirmed.inc(sum([payloads(each.fact) for each in facts]))

    origins = environment[HttpSettings].allowed_origins
    app = http.application("CloudMatch bridge to RabbitMQ", health, origins=origins)
    async with asyncio.TaskGroup() as group:
        group.create_task(http.serve(app, NAME, [sock], stop, environment[HttpSettings].connections))
        group.create_task(publisher.keep_connected(stop))
        group.create_task(dead_letter_queue.watch(lambda: publisher.connection, stop))
        async with connected_bus(environment[NatsSettings], NAME, health, stop) as bus:
            if bus is not None:
                async with asyncio.TaskGroup() as work:
                    if settings.singles:
                        beside = SinglesBridge(rabbit, settings.plain_queues)
                        health.set_check("singles", beside.health)
                        work.create_task(_finish(asyncio.create_task(beside.run(bus, stop)), stop))
                    else:
                        work.create_task(singles.keep_removed(bus, stop))
                    if await until_stopped(stop, publisher.ready()):
                        keep = set_aside.keep_in(publisher, NAME)
                        consumer = DurableConsumer(bus, NAME, linger=LINGER, set_aside=keep)
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
