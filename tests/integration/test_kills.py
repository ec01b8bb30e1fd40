"""Journal and bridge are killed at random moments under load, RabbitMQ for long: ``make test-kills``."""

import asyncio
import itertools
import random
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aio_pika.abc import AbstractIncomingMessage

from cloudmatch_bus.client.history import history
from cloudmatch_bus.contract import amqp_batches
from cloudmatch_bus.contract.deliveries import Claim, span
from cloudmatch_bus.contract.messages import DeliveriesClaimed, DeliveriesCounted, MatchMade
from harness import NatsServer, RabbitMQ, Service, eventually
from harness.amqp import OLD_QUEUE, arriving, old_consumer
from harness.facts import Facts, facts

pytestmark = pytest.mark.servers

Start = Callable[..., Service]
LIFE = 0.7  # s from a start to the kill, at most


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--kills"))


@pytest.fixture
def moments(request: pytest.FixtureRequest) -> random.Random:
    seed = request.config.getoption("--kill-seed")
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    print(f"--kill-seed {seed}")  # noqa: T201 # pytest shows it with a failure only
    return random.Random(seed)  # noqa: S311 # no secret


@asynccontextmanager
async def load(bus: Facts) -> AsyncIterator[None]:
    """Publish facts of one payload, some 1,000 a second, inside the context."""
    over = asyncio.Event()

    async def publish() -> None:
        while not over.is_set():
            for _ in range(25):
                bus.payloads(1)
            await bus.kept()
            await asyncio.sleep(0.025)  # a steady load, not the most that the machine can do

    publishing = asyncio.create_task(publish())
    yield
    over.set()
    await publishing


async def kill(service: Service, times: int, moments: random.Random, life: float = LIFE) -> None:
    """Kill the service this many times, each at a random moment soon after its start."""
    for _ in range(times):
        await asyncio.sleep(moments.uniform(0.0, life))
        service.kill()
        # not until it is ready: its start must survive a kill as well
        await asyncio.to_thread(service.restart, ready=False)
    await asyncio.to_thread(service.wait_ready)


@pytest.fixture
def outage(request: pytest.FixtureRequest) -> float:
    return float(request.config.getoption("--outage"))


@pytest.mark.timeout(1800)
async def test_a_journal_killed_repeatedly_has_every_event_once(
    nats_server: NatsServer, start: Start, kills: int, moments: random.Random
) -> None:
    settings = {
        "CLOUDMATCH_NATS_URL": nats_server.url,
        "CLOUDMATCH_JOURNAL_SEGMENT_SIZE": "300",  # so that many segments are sealed and many snapshots saved
    }
    service = start("journal", settings)
    async with facts(nats_server.url) as bus:
        async with load(bus):
            await kill(service, kills, moments)
        await eventually(lambda: service.get_json("/device/state/b")["messagesReceived"] == bus.count, 60)
    assert service.get_json("/device/state/a")["bytesSent"] == bus.count
    checked = await asyncio.to_thread(service.ask, "verify")
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stdout
    assert f"{bus.count:,} events" in checked.stderr
    assert f"compared with {bus.count:,} messages" in checked.stderr
    print(checked.stderr)  # noqa: T201 # the same


@pytest.mark.timeout(1800)
async def test_a_journal_killed_repeatedly_counts_every_claimed_payload_once(
    nats_server: NatsServer, start: Start, kills: int, moments: random.Random
) -> None:
    settings = {
        "CLOUDMATCH_NATS_URL": nats_server.url,
        "CLOUDMATCH_JOURNAL_SEGMENT_SIZE": "100",
        "CLOUDMATCH_JOURNAL_CLAIM_GRACE": "0.3",  # so that claims are granted between two kills
    }
    service = start("journal", settings)
    async with facts(nats_server.url) as bus:

        async def deliver() -> None:
            """Payloads from a to b, and from b to a: each of them is counted, or claimed, or both."""
            for number in itertools.count(1):
                one, other = span("a", "b", 7, number - 1, [3]), span("b", "a", 7, number - 1, [5])
                counted = [one] if number % 3 == 0 else [one, other] if number % 3 == 1 else [other]
                claimed = [Claim(s.sender, s.receiver, 7, number, s) for s in (one, other)]
                about = {"app": "default", "at": number, "incarnation": 1, "number": number}
                bus.publisher.publish(DeliveriesClaimed(source="f", claims=claimed, **about))
                bus.publisher.publish(DeliveriesCounted(source="e", spans=counted, **about))
                bus.count = number
                await bus.kept()
                await asyncio.sleep(0.01)

        bus.publisher.publish(MatchMade(app="default", at=1, match=7, device="a", peer="b", distance=0))
        delivering = asyncio.create_task(deliver())
        await kill(service, kills, moments, life=2.0)  # it grants after 0.3 to 0.8 s
        delivering.cancel()
        await bus.kept()
        await eventually(lambda: service.metric("cloudmatch_journal_claims") == 0, 20)
        counted: dict[tuple[str, int], list[str]] = {}
        async for messages in history(bus.bus, 0, 2**62):
            for _, fact in messages:
                for each in fact.spans if isinstance(fact, DeliveriesCounted) else ():
                    for number in range(each.first, each.end):
                        counted.setdefault((each.sender, number), []).append(fact.source)
    for device, size in (("a", 3), ("b", 5)):
        state = service.get_json(f"/device/state/{device}")
        assert (state["messagesSent"], state["bytesSent"]) == (bus.count, size * bus.count)
    assert service.metric("cloudmatch_journal_counted_twice_payloads") == 0
    assert service.metric("cloudmatch_journal_unaccounted_payloads") == 0
    checked = await asyncio.to_thread(service.ask, "verify")
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stdout
    assert len(counted) == 2 * bus.count
    assert all(len(sources) == 1 for sources in counted.values())
    by_journal = sum(sources == ["journal"] for sources in counted.values())
    assert by_journal == sum(number % 3 != 1 for number in range(1, bus.count + 1))
    print(f"{by_journal:,} of {len(counted):,} payloads counted by the journal")  # noqa: T201 # the same


async def all_there(bus: Facts, messages: list[AbstractIncomingMessage]) -> None:
    """Wait until every size has arrived; a size that arrived twice has the same id both times."""

    def distinct() -> int:
        return len({m.message_id for m in messages}) if len(messages) >= bus.count else 0

    await eventually(lambda: distinct() >= bus.count, 60 + bus.count / 1000, f"{bus.count} sizes")
    bodies = {str(m.message_id): m.body for m in messages}
    assert all(bodies[str(m.message_id)] == m.body for m in messages)
    batches = [amqp_batches.decode(body) for body in bodies.values()]
    assert sorted(batch.at for batch in batches) == list(range(1, bus.count + 1))
    print(f"{bus.count:,} sizes, {len(messages) - bus.count:,} of them twice")  # noqa: T201 # the same


@pytest.mark.timeout(1800)
async def test_a_bridge_killed_repeatedly_loses_no_size(
    nats_server: NatsServer, amqp_url: str, start: Start, kills: int, moments: random.Random
) -> None:
    settings = {"CLOUDMATCH_NATS_URL": nats_server.url, "CLOUDMATCH_AMQP_URL": amqp_url}
    service = start("bridge-rabbit", settings)
    async with facts(nats_server.url) as bus, arriving(amqp_url) as messages:
        async with load(bus):
            await kill(service, kills, moments)
        await all_there(bus, messages)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_an_outage_of_rabbitmq_loses_no_size(
    nats_server: NatsServer, own_rabbitmq: RabbitMQ, start: Start, outage: float, how: str
) -> None:
    settings = {
        "CLOUDMATCH_NATS_URL": nats_server.url,
        "CLOUDMATCH_AMQP_URL": own_rabbitmq.url,
        "CLOUDMATCH_BRIDGE_RABBIT_QUEUES": OLD_QUEUE,
    }
    service = start("bridge-rabbit", settings)
    confirmed = "cloudmatch_bridge_rabbit_confirmed_total"
    async with facts(nats_server.url) as bus:
        async with load(bus):
            await eventually(lambda: service.metric(confirmed) > 500, 20)
            await asyncio.to_thread(own_rabbitmq.terminate if how == "stopped" else own_rabbitmq.kill)
            await eventually(lambda: "rabbitmq" in service.get("/system/readiness")[1])
            await asyncio.sleep(outage)
            await asyncio.to_thread(own_rabbitmq.restart)
            await asyncio.to_thread(service.wait_ready, 30)
            before = service.metric(confirmed)
            await eventually(lambda: service.metric(confirmed) > before + 500, 30)
        async with arriving(own_rabbitmq.url) as messages:
            await all_there(bus, messages)
        async with old_consumer(own_rabbitmq.url) as consumer:  # singles
            await eventually(lambda: len(consumer.seen) == consumer.total == bus.count, 60)
