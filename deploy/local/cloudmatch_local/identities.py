"""Who is who on the local bus: keys in the run folder, and credentials for each process that `up` starts."""

import os
from pathlib import Path

from cloudmatch_bus.client.settings import KEYS
from cloudmatch_bus.contract import permissions
from cloudmatch_bus.tools import nkeys_cli
from cloudmatch_local.plan import Plan

SERVER = "server.conf"  # of NATS


def make(what: Plan, folder: Path) -> dict[str, dict[str, str]]:
    """Make the keys, unless there are any, and credentials; return variables of each process.

    Raises:
        OSError: a file cannot be written.
    """
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
