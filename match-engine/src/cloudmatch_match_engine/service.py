"""The service: a worker and its HTTP interface, from start to shutdown."""

import asyncio

from cloudmatch_bus.client.provision import connected_bus
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process import http, http_keys
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.listen import listen
from cloudmatch_bus.process.runner import Environment
from cloudmatch_bus.process.settings import HttpSettings, variable
from cloudmatch_match_engine.http_api import routes
from cloudmatch_match_engine.inspection import Inspection
from cloudmatch_match_engine.settings import MatchEngineSettings
from cloudmatch_match_engine.worker import Worker


async def serve(environment: Environment, stop: asyncio.Event) -> None:
    """Serve HTTP; connect to the bus and run a worker, until `stop`."""
    settings = environment[MatchEngineSettings]
    keys = http_keys.required(environment[HttpSettings], settings.host, variable(MatchEngineSettings, "host"))
    sock = listen(settings.host, settings.own_port, variable(MatchEngineSettings, "port"))
    health = Health()
    worker: Worker | None = None

    def inspection() -> Inspection:
        if worker is None:
            raise LookupError("not connected to NATS yet")
        return worker.inspection

    origins = environment[HttpSettings].allowed_origins
    application = http.application("CloudMatch match-engine", health, routes(inspection), origins, keys)
    async with asyncio.TaskGroup() as group:
        group.create_task(
            http.serve(application, "match-engine", [sock], stop, environment[HttpSettings].connections)
        )
        async with connected_bus(environment[NatsSettings], "match-engine", health, stop) as bus:
            if bus is not None:
                worker = Worker(bus, settings.reach, settings.distance)
                worker.add_checks(health)
                await worker.run(stop)
