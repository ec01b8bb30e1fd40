"""Become a private RabbitMQ node: one process, loopback only, its own folder, no Erlang port mapper.

``python -m cloudmatch_local.rabbitmq`` listens on CLOUDMATCH_AMQP_PORT and keeps everything under
``<CLOUDMATCH_RUN_DIR>/rabbitmq``, with the log in ``log/node.log``. Its users are in ``users.json`` there;
without that file, user and password are guest. SIGTERM shuts it down cleanly. With arguments it is
``rabbitmqctl`` for that node: ``python -m cloudmatch_local.rabbitmq list_queues name messages``.
"""

import os
import random
import socket
import sys
from pathlib import Path
from typing import NoReturn

from cloudmatch_bus.process.runner import exit_on_settings_error
from cloudmatch_bus.process.settings import AmqpSettings, CommonSettings, read

SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one in /usr/sbin insists on its own user
CONTROL = SCRIPT.with_name("rabbitmqctl")
NODE = "cloudmatch@localhost"
FOLDER = "rabbitmq"  # in the run folder
USERS = "users.json"

CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
log.console = false
log.file.level = info
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 512MB
"""

# Erlang's: where names are looked up, on machines that do not know localhost, too
HOSTS = '{host, {127,0,0,1}, ["localhost"]}.\n{lookup, [file, native]}.\n'


def missing() -> str | None:
    """Return a sentence that says how to get RabbitMQ if it is not installed."""
    if SCRIPT.exists():
        return None
    return (
        f"RabbitMQ is not installed ({SCRIPT} is missing): `apt-get install rabbitmq-server`, "
        "or set CLOUDMATCH_AMQP_URL to a running one"
    )


def configure(folder: Path, port: int) -> None:
    """Write the node's configuration into its folder, which is created if necessary."""
    (folder / "log").mkdir(parents=True, exist_ok=True)
    configuration = CONFIGURATION.format(port=port)
    if (folder / USERS).exists():
        configuration += f"load_definitions = {folder / USERS}\n"
    (folder / "rabbitmq.conf").write_text(configuration)
    (folder / "enabled_plugins").write_text("[].\n")
    (folder / "hosts").write_text(HOSTS)
    cookie = folder / ".erlang.cookie"
    if cookie.exists():  # restored from a backup, say: Erlang refuses one that others may read
        cookie.chmod(0o400)


def environment(folder: Path, distribution_port: int) -> dict[str, str]:
    """Return the whole environment of the server script; it shares nothing with the machine's own node.

    The distribution port is where the Erlang node listens for its peers and for ``rabbitmqctl``. It is chosen
    in advance, so no port mapper (epmd) is needed to look it up.
    """
    arguments = [
        *("-noinput", "-sname", NODE),
        *("-erl_epmd_port", str(distribution_port), "-kernel", "inet_dist_use_interface", "{127,0,0,1}"),
        *("+S", "1:1", "+A", "4", "+B", "d"),
        # idle schedulers sleep at once, instead of spinning on a core that others want
        *("+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"),
    ]
    return {
        "PATH": "/usr/lib/erlang/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(folder),  # of the cookie
        # for the node, and for what it runs each minute to have a port mapper
        "ERL_ZFLAGS": "-start_epmd false",
        "ERL_INETRC": str(folder / "hosts"),
        "RABBITMQ_ALLOW_INPUT": "1",  # makes the script exec the node instead of starting a child
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_NODENAME": NODE,
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder),
        "RABBITMQ_MNESIA_DIR": str(folder / "data"),
        "RABBITMQ_QUORUM_DIR": str(folder / "quorum"),
        "RABBITMQ_STREAM_DIR": str(folder / "stream"),
        "RABBITMQ_FEATURE_FLAGS_FILE": str(folder / "feature_flags"),
        "RABBITMQ_PLUGINS_EXPAND_DIR": str(folder / "plugins"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "config"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_LOGS": str(folder / "log/node.log"),
        "RABBITMQ_SERVER_START_ARGS": " ".join(arguments),
        "RABBITMQ_CTL_ERL_ARGS": f"-dist_listen false -erl_epmd_port {distribution_port}",
    }


def free_port() -> int:
    """Return a free port of loopback, outside the kernel's range for outgoing connections."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def main() -> None:
    """Become the node, or with arguments `rabbitmqctl` for it."""
    with exit_on_settings_error():
        amqp, common = read(AmqpSettings, os.environ), read(CommonSettings, os.environ)
    if reason := missing():
        sys.exit(reason)
    folder = Path(common.run_dir, FOLDER).resolve()
    if arguments := sys.argv[1:]:
        _exec_control(folder, arguments)
    _exec_node(folder, amqp.port)


def _exec_control(folder: Path, arguments: list[str]) -> NoReturn:
    port_file = _port_file(folder)
    if not port_file.exists():
        sys.exit(f"no node has run in {folder}")
    command = ["sh", str(CONTROL), "--quiet", *arguments]
    os.execve("/bin/sh", command, environment(folder, int(port_file.read_text())))


def _exec_node(folder: Path, port: int) -> NoReturn:
    configure(folder, port)
    distribution_port = free_port()
    _port_file(folder).write_text(str(distribution_port))
    print(f"starting on port {port}; log: {folder / 'log/node.log'}", flush=True)
    with (folder / "log/console.log").open("wb") as console:
        os.dup2(console.fileno(), 1)
        os.dup2(console.fileno(), 2)
    os.chdir(folder)  # where Erlang leaves its dumps
    os.execve("/bin/sh", ["sh", str(SCRIPT)], environment(folder, distribution_port))


def _port_file(folder: Path) -> Path:
    return folder / "distribution_port"


if __name__ == "__main__":
    main()
