"""Take a port, and say in the one form that tools read where a process listens."""

import logging
import socket

log = logging.getLogger("http")


def listen(host: str, port: int) -> socket.socket:
    """Take a TCP port (0: a free one).

    Raises:
        OSError: the port is taken; the message names it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from None
    sock.listen(512)
    sock.setblocking(False)
    return sock


def ready_at(service: str, sock: socket.socket, scheme: str = "http") -> None:
    """Log where a service listens, in the one form that tools read."""
    host, port = sock.getsockname()[:2]
    log.info("%s listens at %s://%s:%d", service, scheme, f"[{host}]" if ":" in host else host, port)
