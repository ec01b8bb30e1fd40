"""Four who count bytes agree, whatever died: the devices, RabbitMQ, the journal, and the windows."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable

import aio_pika
import pytest

import harness
from cloudmatch_bus.contract import amqp
from faults.workload import Workload
from harness import Service, eventually, source_of

PAIRS, RATE = 4, 200  # payloads a second, all together
SPAN = 200  # payloads heard between one fault and the next
PATIENCE = 60.0  # s for counts to come in: what a dead bridge had taken, NATS gives out again after a while
WITNESS = "agreement"  # a queue of our own


class System:
    """Everything, and devices that talk."""

    def __init__(
        self,
        nats: harness.NatsServer,
        rabbitmq: harness.RabbitMQ,
        kafka: harness.KafkaBroker | harness.Kafka,
        start: Callable[..., Service],
    ) -> None:
        env = {
            "CLOUDMATCH_NATS_URL": nats.url,
            "CLOUDMATCH_AMQP_URL": rabbitmq.url,
            **kafka.settings,
        }
        self.rabbitmq = rabbitmq
        self.workers = [start("match-engine", env) for _ in range(2)]
        self.edges = [start("edge", {**env, "CLOUDMATCH_EDGE_NAME": f"edge-{i}"}) for i in range(2)]
        self.journal = start("journal", env)
        self.bridge = start("bridge-rabbit", env, deadline=40)
        self.analytics = start("analytics", env, deadline=40)
        self.workload = Workload(PAIRS, RATE, seed=2019)

    @contextlib.asynccontextmanager
    async def talking(self) -> AsyncIterator[None]:
        """Let devices talk; in the end, wait until each has heard all."""
        await self._witness()
        await self.workload.connect([edge.url for edge in self.edges])
        self.workload.start()
        yield
        await self.workload.finish()
        assert self.workload.received == self.workload.sent
        assert self.workload.problems() == []
        await self.workload.close()

    async def go_on(self) -> None:
        """Return once devices have heard `SPAN` more payloads."""
        heard = self.workload.received
        await eventually(lambda: self.workload.received >= heard + SPAN, 30, "the relay going on")

    def windows(self) -> int:
        """Bytes in all closed windows."""
        return sum(w["bytes"] for w in self.analytics.get_json("/windows?size=10s&last=8640"))

    def journalled(self) -> tuple[int, int]:
        """Bytes that the journal says devices have sent, and received."""
        states = [self.journal.get_json(f"/device/state/{t.name}") for t in self.workload.devices]
        return sum(s["bytesSent"] for s in states), sum(s["bytesReceived"] for s in states)

    async def _witness(self) -> None:
        async with await aio_pika.connect(self.rabbitmq.url) as connection:
            queue = await (await connection.channel()).declare_queue(WITNESS, durable=True)
            await queue.bind(amqp.EXCHANGE, "#")

    async def through_rabbitmq(self, seen: dict[str, int]) -> int:
        """Take what has come into our own queue; give the bytes of all that ever came, each size once."""
        async with await aio_pika.connect(self.rabbitmq.url) as connection:
            queue = await (await connection.channel()).get_queue(WITNESS)
            while message := await queue.get(no_ack=True, fail=False):
                assert message.message_id
                seen[message.message_id] = int(message.body)
        return sum(seen.values())

    async def agree(self) -> None:
        """Return once all four numbers are the same."""
        seen: dict[str, int] = {}
        counts: dict[str, object] = {}

        async def same() -> bool:
            heard = self.workload.bytes_received
            counts.update(devices=heard, windows=self.windows(), journal=self.journalled())
            counts["rabbitmq"] = await self.through_rabbitmq(seen)
            return counts == {
                "devices": heard,
                "rabbitmq": heard,
                "windows": heard,
                "journal": (heard, heard),
            }

        try:
            await eventually(same, PATIENCE, "agreement")
        except AssertionError as error:
            error.add_note(str(counts))
            raise


@pytest.fixture
def system(
    nats_server: harness.NatsServer,
    own_rabbitmq: harness.RabbitMQ,
    kafka_broker: harness.KafkaBroker,
    start: Callable[..., Service],
) -> System:
    return System(nats_server, own_rabbitmq, kafka_broker, start)


@pytest.mark.timeout(300)
async def test_devices_rabbitmq_journal_and_windows_agree_whatever_died_and_the_relay_went_on(
    system: System,
) -> None:
    counting = (system.journal, system.bridge, system.analytics)
    async with system.talking():
        await system.go_on()
        for service in (system.bridge, system.journal, system.workers[0]):
            service.kill()
            await system.go_on()
            await asyncio.to_thread(service.restart, deadline=60)
        source = source_of(system.analytics)
        assert source
        os.kill(source, signal.SIGKILL)
        await system.go_on()
        await asyncio.to_thread(system.rabbitmq.restart)
        await system.go_on()
        for service in counting:
            service.process.signal(signal.SIGSTOP)  # too slow to be of any use
        await system.go_on()
        for service in counting:
            service.kill()
        await asyncio.to_thread(system.rabbitmq.kill)
        await system.go_on()
        await system.go_on()
    await asyncio.to_thread(system.rabbitmq.restart)
    for service in counting:
        await asyncio.to_thread(service.restart, deadline=60)
    await system.agree()
