"""The journal's process: wires store, journal, HTTP and bus."""

import asyncio

from cloudmatch_bus.client.provision import connected_bus
from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process import http, http_keys
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.listen import listen, listen_also
from cloudmatch_bus.process.runner import Environment
from cloudmatch_bus.process.settings import HttpSettings, SettingsError, variable
from cloudmatch_journal.core.retention import Retention
from cloudmatch_journal.files import FolderError, StoreError
from cloudmatch_journal.http_api import handlers
from cloudmatch_journal.journal import NAME, Journal
from cloudmatch_journal.settings import JournalSettings, folder
from cloudmatch_journal.store import Store


async def serve(environment: Environment, stop: asyncio.Event) -> None:
    """Run the journal until `stop`."""
    settings = environment[JournalSettings]
    keys = http_keys.required(environment[HttpSettings], settings.host, variable(JournalSettings, "host"))
    sockets = [
        listen(settings.host, settings.port, variable(JournalSettings, "port")),
        *listen_also(settings.host, settings.legacy_port, variable(JournalSettings, "legacy_port")),
    ]
    journal = _open(environment)
    health = Health()
    health.set_check("stopping", lambda: "stopping" if stop.is_set() else None)
    health.set_check("disk", lambda: journal.store.problem)
    routes = handlers(journal.store, journal.ledger, journal.publish)
    app = http.application(
        "CloudMatch journal", health, routes, environment[HttpSettings].allowed_origins, keys
    )
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(http.serve(app, NAME, sockets, stop, environment[HttpSettings].connections))
            retention = group.create_task(journal.keep_house())
            async with connected_bus(environment[NatsSettings], NAME, health, stop) as bus:
                if bus is not None:
                    await journal.run(bus, health, stop)
            retention.cancel()
    finally:
        journal.save()
        journal.store.close()


def _open(environment: Environment) -> Journal:
    """Open the journal; exit with a sentence if its folder cannot be used."""
    settings = environment[JournalSettings]
    try:
        store = Store(folder(environment), settings.segment_size)
        retention = Retention(settings.retention_days, settings.retention_bytes)
        return Journal(store, settings.segment_size, retention, settings.claim_grace, settings.max_states)
    except FolderError as error:
        raise SettingsError(f"{variable(JournalSettings, 'folder')}: {error}") from error
    except StoreError as error:
        raise SystemExit(f"the journal cannot start: {error}") from None
