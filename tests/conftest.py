"""Fixtures that every floor shares, described in `harness`."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aio_pika
import pytest

import harness
from cloudmatch_bus.contract import amqp, amqp_batches, amqp_forgotten, amqp_set_aside
from harness import clocks
from harness.amqp import OLD_QUEUE

pytest_plugins = ["harness.workers", "harness.unchanged"]  # side by side; what has changed

# A shell's background job ignores SIGINT, and so would every process that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# readline exports the width of the terminal to all that pytest starts; tests set their own.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

# Compile tests and the libraries that pytest rewrites once, not on every run in each of its processes.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

SERVERS = {"nats_server", "rabbitmq", "own_rabbitmq", "amqp_url", "kafka_broker", "start"}
SERVERS |= {"shared_amqp_url", "shared_kafka_broker"}


def pytest_configure() -> None:
    """Give hypothesis no deadline: a busy machine is no failure."""
    import hypothesis  # here, because pytest rewrites it: what it compiles from now on is kept

    slow = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile("house", deadline=None, suppress_health_check=slow)
    hypothesis.settings.load_profile("house")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options for longer runs, seeds and other servers."""
    group = parser.getgroup("cloudmatch")
    group.addoption("--kafka", action="store_true", help="a real Kafka in place of the embedded broker")
    group.addoption("--kills", type=int, default=5, help="how often a process is killed under load")
    group.addoption("--attempts", type=int, default=24, help="how many devices ask twice for a connection")
    group.addoption("--outage", type=float, default=3.0, help="seconds for which RabbitMQ is down")
    group.addoption(
        "--kill-seed", type=int, default=None, help="of the moments at which processes are killed"
    )
    group.addoption("--frames", type=int, default=40_000, help="how many malformed frames an edge gets")
    group.addoption("--fuzz-seed", type=int, default=2019, help="of the malformed frames")

    group.addoption("--worlds", type=int, default=0, help="how many worlds each simulation runs")
    group.addoption("--first-world", type=int, default=0, help="the seed of the first of them")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a server, so that `-m "not servers"` needs none."""
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("servers")


@pytest.fixture
def nats_server() -> Iterator[harness.NatsServer]:
    """A NATS server with JetStream, for this test."""
    with harness.nats_server() as server:
        yield server


@contextlib.contextmanager
def _rabbitmq() -> Iterator[harness.RabbitMQ]:
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(harness.rabbitmq())
        except harness.ServerMissingError as missing:
            if os.environ.get("CI"):
                pytest.fail(str(missing))
            pytest.skip(str(missing))
        yield server


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[harness.RabbitMQ]:
    """A RabbitMQ node for all tests of a worker. Skips without one on a laptop, fails where CI is set."""
    with _rabbitmq() as server:
        yield server


def _clean(url: str) -> None:
    """Remove what services of CloudMatch have declared on a RabbitMQ node."""

    async def clean() -> None:
        async with await aio_pika.connect(url) as connection:
            channel = await connection.channel()
            await channel.queue_delete(amqp_set_aside.QUEUE)
            for contract in (amqp, amqp_batches, amqp_forgotten):
                for queue in (contract.QUEUE, contract.DEAD_QUEUE):
                    await channel.queue_delete(queue)
                for exchange in (contract.EXCHANGE, contract.DEAD_QUEUE):  # of the same name
                    await channel.exchange_delete(exchange)
            await channel.queue_delete(OLD_QUEUE)

    with ThreadPoolExecutor(1) as thread:  # this thread's event loop is the test's
        thread.submit(asyncio.run, clean()).result(30)


@pytest.fixture
def amqp_url(rabbitmq: harness.RabbitMQ) -> str:
    """URL of the RabbitMQ node, without the queues and exchanges of another test."""
    _clean(rabbitmq.url)
    return rabbitmq.url


@pytest.fixture
def own_rabbitmq(rabbitmq: harness.RabbitMQ, amqp_url: str) -> Iterator[harness.RabbitMQ]:
    """The RabbitMQ node, clean, for a test that may kill it: a start costs seconds of CPU."""
    yield rabbitmq
    if rabbitmq.process.returncode is not None:
        rabbitmq.start()


@contextlib.contextmanager
def _kafka(config: pytest.Config) -> Iterator[harness.KafkaBroker | harness.Kafka]:
    if not config.getoption("--kafka"):
        with harness.kafka_broker() as broker:
            yield broker
        return
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(harness.kafka())
        except harness.ServerMissingError as missing:
            pytest.skip(str(missing))
        yield server


@pytest.fixture
def kafka_broker(request: pytest.FixtureRequest) -> Iterator[harness.KafkaBroker | harness.Kafka]:
    """The Kafka-protocol broker, or with ``--kafka`` a real Kafka, for this test."""
    with _kafka(request.config) as broker:
        yield broker


@pytest.fixture(scope="module")
def shared_kafka_broker(request: pytest.FixtureRequest) -> Iterator[harness.KafkaBroker | harness.Kafka]:
    """The same for all tests of a module."""
    with _kafka(request.config) as broker:
        yield broker


@pytest.fixture(scope="module")
def shared_amqp_url(rabbitmq: harness.RabbitMQ) -> str:
    """The same for all tests of a module, none of which may use `amqp_url`."""
    _clean(rabbitmq.url)
    return rabbitmq.url


@pytest.fixture
def start() -> Iterator[Callable[..., harness.Service]]:
    """Start services that end with the test, the last one first: ``start(name, env)``."""
    with contextlib.ExitStack() as stack:
        services: list[harness.Service] = []

        def begin(name: str, env: Mapping[str, str] | None = None, **how: object) -> harness.Service:
            services.append(stack.enter_context(harness.service(name, env, **how)))
            return services[-1]

        yield begin
        for each in services:  # pytest shows it with a failure only
            print(each.process.tail())  # noqa: T201 # the same


@pytest.fixture
def stepped_clock(tmp_path: Path) -> Callable[..., clocks.SteppedClock]:
    """Make wall clocks: ``clock = stepped_clock(-600)``, ``start(name, {**env, **clock.settings})``, then
    ``clock.step(2 * DAY)``."""
    numbers = itertools.count()

    def make(seconds: float = 0.0) -> clocks.SteppedClock:
        return clocks.SteppedClock(tmp_path / f"clock-{next(numbers)}", seconds)

    return make
