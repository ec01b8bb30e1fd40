"""Listen on a port, and log the address in the one format that tools parse."""

import errno
import logging
import socket
from ipaddress import ip_address

from cloudmatch_bus.process.settings import SettingsError

log = logging.getLogger("http")
REMEDIES = {
    errno.EADDRINUSE: "stop the process that is listening there",
    errno.EACCES: "run it as root, or lower net.ipv4.ip_unprivileged_port_start by sysctl",
}


def listen(host: str, port: int, setting: str) -> socket.socket:
    """Listen on a TCP port (0: a free one).

    Args:
        setting: the variable that sets the port.

    Raises:
        SettingsError: impossible; the message names the address and the setting.
    """
    try:
        return _bind(host, port)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        remedy = REMEDIES.get(getattr(error, "errno", 0), "the host")
        raise SettingsError(
            f"cannot listen on {_address(host, port)} ({reason}): change {setting}, or {remedy}"
        ) from None


def listen_also(host: str, port: int, setting: str) -> list[socket.socket]:
    """Listen on a second port, like `listen`; 0: on none."""
    return [listen(host, port, setting)] if port else []


def is_loopback(host: str) -> bool:
    """Whether only processes of this machine reach what listens on an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bind(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(512)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def log_listening(service: str, sock: socket.socket, scheme: str = "http") -> None:
    """Log the address of a service, in the one format that tools parse."""
    host, port = sock.getsockname()[:2]
    log.info("%s listening at %s://%s", service, scheme, _address(host, port))


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
