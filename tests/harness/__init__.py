"""Real servers and services for tests: on free ports, in temporary folders, ended by their pid.

Fixtures (`tests/conftest.py`), for most tests::

    @pytest.mark.servers
    async def test_a_frame_reaches_the_peer(nats_server, start):
        edge = start("edge", {"CLOUDMATCH_NATS_URL": nats_server.url})
        assert edge.get("/system/readiness")[0] == 200
        await eventually(lambda: edge.metric("cloudmatch_edge_devices") == 2, deadline=5)

    nats_server    a NATS server with JetStream for this test: `.url`, `.monitor`, `.kill()`, `.restart()`
    rabbitmq       a RabbitMQ node for the whole run of a worker (a start takes seconds): `.url`
    amqp_url       the same node's URL, with the queues and exchanges of CloudMatch removed
    own_rabbitmq   the same node, for a test that kills it: `.kill()`, `.restart()`
    kafka_broker   the Kafka-protocol broker for this test: `.bootstrap`, `.settings` for services; with
                   the option ``--kafka`` a real Kafka in its place
    start          `start(name, env)` runs a console script until its readiness is 200; ended with the test,
                   which fails if the log holds a traceback or SIGTERM did not end the process
    stepped_clock  `clock = stepped_clock(-600)`: a wall clock that is wrong by that many seconds, for
                   services started with `{**env, **clock.settings}`; `clock.step(2 * DAY)` sets it while they
                   run (`harness.clocks`)

Context managers of the same names (and `service`) serve scopes of your own: ``with nats_server() as bus:``;
`nats_cluster` gives three NATS servers that keep their streams together. `harness.page` has the dev client in
Chromium, `harness.workers` which worker runs which tests, `harness.unchanged` which tests are skipped.
All of them block; in a test whose own sockets must stay alive, ``await asyncio.to_thread(edge.restart)``.
Environment variables ``CLOUDMATCH_*`` of the shell do not reach what is started here: pass what it needs.
"""

from harness.kafka import Kafka, kafka
from harness.processes import BIN, Process, alive, children, environment, free_port
from harness.servers import (
    KafkaBroker,
    NatsCluster,
    NatsServer,
    RabbitMQ,
    ServerMissingError,
    kafka_broker,
    nats_cluster,
    nats_server,
    rabbitmq,
)
from harness.services import Service, service, source_of
from harness.waiting import eventually, eventually_sync

__all__ = [
    "BIN",
    "Kafka",
    "KafkaBroker",
    "NatsCluster",
    "NatsServer",
    "Process",
    "RabbitMQ",
    "ServerMissingError",
    "Service",
    "alive",
    "children",
    "environment",
    "eventually",
    "eventually_sync",
    "free_port",
    "kafka",
    "kafka_broker",
    "nats_cluster",
    "nats_server",
    "rabbitmq",
    "service",
    "source_of",
]
