"""Take a port, and say in the one form that tools read where a process listens."""

import errno
import logging
import socket

from cloudmatch_bus.process.settings import SettingsError

log = logging.getLogger("http")


def listen(host: str, port: int, setting: str) -> socket.socket:
    """Take a TCP port (0: a free one).

    Args:
        setting: the variable that moves it.

    Raises:
        SettingsError: it cannot be taken; the message names the address and the setting.
    """
    try:
        return _listening(host, port)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        cure = "end what listens there" if getattr(error, "errno", 0) == errno.EADDRINUSE else "the host"
        raise SettingsError(
            f"cannot listen on {_place(host, port)} ({reason}): change {setting}, or {cure}"
        ) from None


def _listening(host: str, port: int) -> socket.socket:
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
    """Log where a service listens, in the one form that tools read."""
    host, port = sock.getsockname()[:2]
    log.info("%s listening at %s://%s", service, scheme, _place(host, port))


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
