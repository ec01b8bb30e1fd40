"""Who is who on the local servers: keys in the run folder, credentials for each process that `up` starts."""

import os
import secrets
from pathlib import Path

from cloudmatch_analytics.settings import AnalyticsSettings
from cloudmatch_bridge_rabbit.settings import BridgeSettings
from cloudmatch_bus.client.settings import KEYS
from cloudmatch_bus.contract import amqp_rights, permissions
from cloudmatch_bus.process.settings import AmqpSettings
from cloudmatch_bus.tools import nkeys_cli
from cloudmatch_local import rabbitmq
from cloudmatch_local.plan import Plan
from cloudmatch_local.settings import AllSettings

SERVER = "server.conf"  # of NATS
GUEST = "guest"  # RabbitMQ's user when there are no others

Variables = dict[str, dict[str, str]]  # process → its own


def on_bus(what: Plan, folder: Path) -> Variables:
    """Make the keys of NATS, unless there are any, and credentials; return variables of each process.

    Raises:
        OSError: a file cannot be written.
    """
    if not what.names:
        return {}
    keys = folder / KEYS
    if not (keys / nkeys_cli.PEOPLE).exists():
        nkeys_cli.make_keys(keys)
    nkeys_cli.write(keys / nkeys_cli.ACCOUNTS_CONF, nkeys_cli.accounts_conf(keys))  # of this version
    variables = {}
    for process, name in what.names.items():
        role, file = process.partition(".")[0], keys / f"{process}.creds"
        nkeys_cli.write(file, nkeys_cli.mint(keys, role, name))
        variables[process] = {"CLOUDMATCH_NATS_CREDENTIALS_FILE": str(file)}
        if not permissions.may_provision(role):
            variables[process]["CLOUDMATCH_NATS_PROVISION"] = "false"
    return variables


def write_server_configuration(root: Path, folder: Path, *, known_only: bool) -> None:
    """Write the configuration of the local NATS server; it includes that of every server.

    Args:
        root: the folder of the sources.
        known_only: refuse processes without credentials.
    """
    included = [root / "nats/server.conf", *([folder / KEYS / nkeys_cli.ACCOUNTS_CONF] if known_only else [])]
    (folder / "nats").mkdir(exist_ok=True)
    text = "".join(f"include '{os.path.relpath(each, folder / 'nats')}'\n" for each in included)
    (folder / "nats" / SERVER).write_text(text, encoding="utf-8")


def at_rabbitmq(settings: AllSettings, folder: Path, *, known_only: bool) -> Variables:
    """Write the users that the local node loads; return variables of each process.

    Args:
        known_only: give each service a user of its own. Otherwise there is only the guest, as without a file.
    """
    users = {GUEST: amqp_rights.Rights(".*", ".*", ".*")}
    passwords = {GUEST: GUEST}
    if known_only:
        users = amqp_rights.rights(
            settings[BridgeSettings].plain_queues, settings[AnalyticsSettings].plain_queues
        )
        passwords = {name: secrets.token_urlsafe(24) for name in (*users, GUEST)}  # of a guest that was there
        users[GUEST] = amqp_rights.Rights("^$", "^$", "^$")
    hashes = {
        name: amqp_rights.password_hash(each, secrets.token_bytes(4)) for name, each in passwords.items()
    }
    (folder / rabbitmq.FOLDER).mkdir(exist_ok=True)
    nkeys_cli.write(
        folder / rabbitmq.FOLDER / rabbitmq.USERS, amqp_rights.definitions(users, hashes).decode()
    )
    if not known_only:
        return {}
    (folder / KEYS).mkdir(exist_ok=True)
    variables = {}
    for name in (amqp_rights.BRIDGE, amqp_rights.ANALYTICS, amqp_rights.OPERATOR):
        url = f"amqp://{name}:{passwords[name]}@127.0.0.1:{settings[AmqpSettings].port}/"
        nkeys_cli.write(folder / KEYS / f"{name}.amqp", f"{url}\n")
        variables[f"{name}.1"] = {"CLOUDMATCH_AMQP_URL": url}
    return variables
