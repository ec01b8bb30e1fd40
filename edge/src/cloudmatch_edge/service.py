"""The service: the edge's parts, made and wired together, from start to shutdown."""

import asyncio

from cloudmatch_bus.client.provision import connected_bus
from cloudmatch_bus.client.publisher import FactPublisher
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.listen import listen, listen_also, log_listening
from cloudmatch_bus.process.runner import Environment
from cloudmatch_bus.process.settings import variable
from cloudmatch_edge.bus.hub import Hub
from cloudmatch_edge.relay.rate_limit import Limits
from cloudmatch_edge.settings import EdgeSettings
from cloudmatch_edge.sockets.certificate import Certificate
from cloudmatch_edge.sockets.connection import Connection
from cloudmatch_edge.sockets.listener import Listener
from cloudmatch_edge.sockets.liveness import bound_unsent

BACKLOG = 4096  # connections that the kernel accepts before the edge does: a crowd that returns
DRAIN_TIMEOUT = 4.0  # s for match-engine to learn which devices have left, and again for facts to be stored


async def serve(environment: Environment, stop: asyncio.Event) -> None:
    """Serve probes; connect to the bus and let devices in, until `stop`."""
    settings = environment[EdgeSettings]
    environment[NatsSettings].check_name(settings.own_name)
    health = Health()
    listener = Listener(settings, health)
    sockets = [
        listen(settings.host, settings.own_port, variable(EdgeSettings, "port")),
        *listen_also(settings.host, settings.own_legacy_port, variable(EdgeSettings, "legacy_port")),
    ]
    tls = Certificate(settings.tls_cert_file, settings.tls_key_file) if settings.tls_cert_file else None
    servers = []
    for sock in sockets:
        bound_unsent(sock)
        servers.append(
            await asyncio.get_running_loop().create_server(
                lambda: Connection(listener), sock=sock, backlog=BACKLOG, **(tls.options if tls else {})
            )
        )
        log_listening("edge", sock, "https" if tls else "http")
    tasks = [asyncio.create_task(listener.gate.keyring.run())] if listener.gate.keyring else []
    async with connected_bus(environment[NatsSettings], "edge", health, stop) as bus:
        if bus is not None:
            facts = FactPublisher(bus)
            health.set_warning("facts", facts.problem)
            tasks += [asyncio.create_task(facts.run()), asyncio.create_task(listener.ping())]
            hub = Hub(
                bus,
                settings.own_name,
                facts,
                settings.patience,
                settings.grace,
                settings.max_connections,
                Limits(
                    settings.connects_per_device,
                    settings.connections_per_app,
                    settings.silent_match,
                    settings.control,
                ),
            )
            await hub.start()
            tasks.append(asyncio.create_task(hub.heartbeat.run()))
            if listener.gate.keyring:
                tasks.append(asyncio.create_task(hub.watch_tokens()))
            if tls:
                tasks.append(asyncio.create_task(tls.watch()))
            health.set_check("devices", lambda: hub.full)
            listener.open(hub)
            await stop.wait()
            health.set_check("stopping", lambda: "shutting down")
            _close(servers)
            hub.begin_drain()
            await listener.close()
            await hub.drain(DRAIN_TIMEOUT)
            await facts.drain(DRAIN_TIMEOUT)
            for task in tasks:
                task.cancel()
    _close(servers)


def _close(servers: list[asyncio.Server]) -> None:
    for server in servers:
        server.close()
