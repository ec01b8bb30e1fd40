"""Devices, RabbitMQ, journal and windows agree on the number of bytes, whatever process died."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator, Callable

import aio_pika
import pytest

import harness
from cloudmatch_bus.contract import amqp
from faults.workload import Workload
from harness import Service, eventually, source_of
from harness.clocks import DAY, MINUTE, SteppedClock

PAIRS, RATE = 4, 200  # payloads a second, all together
SPAN = 200  # payloads received between two faults
PATIENCE = 60.0  # s for counts to arrive: NATS redelivers the facts of a dead bridge after a while
TOO_LATE = re.compile(r"too late for all retained windows: \d+ payloads, (\d+) bytes")
WITNESS = "agreement"  # a queue of this test


class System:
    """All services, and devices that exchange payloads."""

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
    async def exchanging(self) -> AsyncIterator[None]:
        """Let devices exchange payloads; in the end, wait until each has received all."""
        await self._declare_witness()
        await self.workload.connect([edge.url for edge in self.edges])
        self.workload.start()
        yield
        await self.workload.finish()
        assert self.workload.received == self.workload.sent
        assert self.workload.problems() == []
        await self.workload.close()

    async def continues(self) -> None:
        """Return once devices have received `SPAN` more payloads."""
        received = self.workload.received
        await eventually(lambda: self.workload.received >= received + SPAN, 30, "the relay to continue")

    def windows(self) -> int:
        """Bytes in all closed windows, and bytes that the log calls too late for any."""
        closed = sum(w["bytes"] for w in self.analytics.get_json("/windows?size=10s&last=8640"))
        return closed + sum(map(int, TOO_LATE.findall(self.analytics.logs())))

    def journalled(self) -> tuple[int, int]:
        """Bytes that devices have sent and received, by the journal."""
        states = [self.journal.get_json(f"/device/state/{t.name}") for t in self.workload.devices]
        return sum(s["bytesSent"] for s in states), sum(s["bytesReceived"] for s in states)

    async def _declare_witness(self) -> None:
        async with await aio_pika.connect(self.rabbitmq.url) as connection:
            queue = await (await connection.channel()).declare_queue(WITNESS, durable=True)
            await queue.bind(amqp.EXCHANGE, "#")

    async def through_rabbitmq(self, seen: dict[str, int]) -> int:
        """Empty the witness queue into `seen`; return the bytes of all sizes ever seen, each once."""
        async with await aio_pika.connect(self.rabbitmq.url) as connection:
            queue = await (await connection.channel()).get_queue(WITNESS)
            while message := await queue.get(no_ack=True, fail=False):
                assert message.message_id
                seen[message.message_id] = int(message.body)
        return sum(seen.values())

    async def agree(self) -> None:
        """Return once all four numbers are equal."""
        seen: dict[str, int] = {}
        counts: dict[str, object] = {}

        async def same() -> bool:
            received = self.workload.bytes_received
            counts.update(devices=received, windows=self.windows(), journal=self.journalled())
            counts["rabbitmq"] = await self.through_rabbitmq(seen)
            return counts == {
                "devices": received,
                "rabbitmq": received,
                "windows": received,
                "journal": (received, received),
            }

        try:
            await eventually(same, PATIENCE, "agreement")
        except AssertionError as error:
            error.add_note(str(counts))
            raise


CLOCKS = (2, -2, 10 * MINUTE, -10 * MINUTE, 2 * DAY, -2 * DAY, 0)  # s ahead, one after the other


@pytest.mark.timeout(300)
async def test_devices_rabbitmq_journal_and_windows_agree_whatever_clocks_show(
    nats_server: harness.NatsServer,
    own_rabbitmq: harness.RabbitMQ,
    kafka_broker: harness.KafkaBroker,
    start: Callable[..., Service],
    stepped_clock: Callable[..., SteppedClock],
) -> None:
    clocks = []

    def start_with_own_clock(name: str, env: dict[str, str], deadline: float = 20) -> Service:
        clocks.append(stepped_clock())
        return start(name, {**env, **clocks[-1].settings}, deadline=deadline)

    system = System(nats_server, own_rabbitmq, kafka_broker, start_with_own_clock)
    async with system.exchanging():
        for at in range(len(CLOCKS)):
            for number, clock in enumerate(clocks):
                clock.step(CLOCKS[(at + number) % len(CLOCKS)])
            await system.continues()
        for clock in clocks:
            clock.step(0)
        await system.continues()
    await system.agree()


@pytest.fixture
def system(
    nats_server: harness.NatsServer,
    own_rabbitmq: harness.RabbitMQ,
    kafka_broker: harness.KafkaBroker,
    start: Callable[..., Service],
) -> System:
    return System(nats_server, own_rabbitmq, kafka_broker, start)


@pytest.mark.timeout(300)
async def test_devices_rabbitmq_journal_and_windows_agree_whatever_process_died(
    system: System,
) -> None:
    counting = (system.journal, system.bridge, system.analytics)
    async with system.exchanging():
        await system.continues()
        for service in (system.bridge, system.journal, system.workers[0]):
            service.kill()
            await system.continues()
            await asyncio.to_thread(service.restart, deadline=60)
        source = source_of(system.analytics)
        assert source
        os.kill(source, signal.SIGKILL)
        await system.continues()
        await asyncio.to_thread(system.rabbitmq.restart)
        await system.continues()
        for service in counting:
            service.process.signal(signal.SIGSTOP)  # frozen
        await system.continues()
        for service in counting:
            service.kill()
        await asyncio.to_thread(system.rabbitmq.kill)
        await system.continues()
        await system.continues()
    await asyncio.to_thread(system.rabbitmq.restart)
    for service in counting:
        await asyncio.to_thread(service.restart, deadline=60)
    await system.agree()
