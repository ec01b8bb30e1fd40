"""Mosquitto over WebSocket, at QoS 0 and at QoS 1."""

import contextlib
import getpass
from collections.abc import Iterator
from pathlib import Path

from bench.peers import Peer, PeerMissingError, Running, packages
from bench.peers.server import Server, serving
from harness import free_port

# Without a listener for plain MQTT it does not start; without socket_domain it ignores the other's address.
SETTINGS = """
user {user}
listener {plain} 127.0.0.1
listener {port} 127.0.0.1
protocol websockets
socket_domain ipv4
allow_anonymous true
persistence false
max_queued_messages 0
max_inflight_messages 0
set_tcp_nodelay true
log_type error
"""


def missing(folder: Path) -> str:
    """Return what is not installed yet; empty: nothing."""
    return "mosquitto" if packages.debian_program(folder, "mosquitto") is None else ""


def install(folder: Path) -> None:
    """Fetch it from Debian."""
    packages.debian(folder, "mosquitto")


def versions(folder: Path) -> dict[str, str]:
    """Return the versions of its programs."""
    return {"mosquitto": packages.version_of(folder, "mosquitto")}


@contextlib.contextmanager
def run(folder: Path) -> Iterator[Running]:
    """Run one broker: two would need a bridge, with its own guarantees of order and delivery."""
    program = packages.debian_program(folder, "mosquitto")
    if program is None:
        raise PeerMissingError("mosquitto is not installed")
    logs, port = folder / "run", free_port()
    file = logs / f"mosquitto-{port}.conf"
    file.write_text(SETTINGS.format(plain=free_port(), port=port, user=getpass.getuser()))
    server = Server("mosquitto", [program, "-c", file], port, packages.debian_environment(folder), logs)
    with serving(server) as broker:
        yield Running((port, port), {"mosquitto": broker.pid}, broker)


PEERS = tuple(
    Peer(
        name=f"mosquitto{qos}",
        title=f"Mosquitto QoS {qos}",
        dialect=f"mqtt{qos}",
        parts="one broker, nothing kept on disk",
        promise=promise,
        install=install,
        run=run,
        versions=versions,
        missing=missing,
    )
    for qos, promise in enumerate(("at most once", "at least once"))
)
