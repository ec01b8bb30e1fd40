"""The certificate with which an edge speaks TLS. When it changes, who connects from then on sees the new."""

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Any

log = logging.getLogger("certificate")

HANDSHAKE = 10.0  # s for a device to agree on how to speak
SHUTDOWN = 2.0  # s for it to say that it has heard the end
INTERVAL = 2.0  # s between two looks at the files


class Certificate:
    """A certificate chain and its key, in two files (PEM).

    Raises:
        OSError: they cannot be used.
    """

    def __init__(self, chain: str, key: str) -> None:
        self._files = chain, key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._seen = self._look()
        self.context.load_cert_chain(*self._files)
        # for asyncio's `create_server`
        self.options: dict[str, Any] = {
            "ssl": self.context,
            "ssl_handshake_timeout": HANDSHAKE,
            "ssl_shutdown_timeout": SHUTDOWN,
        }

    def _look(self) -> list[tuple[int, int]]:
        states = [Path(file).stat() for file in self._files]
        return [(state.st_mtime_ns, state.st_ino) for state in states]

    async def watch(self) -> None:
        """Take what is in the files whenever they change, until cancelled; nothing that cannot be used."""
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                seen = self._look()
                if seen == self._seen:
                    continue
                # A chain whose key is yet to come would leave the context with neither.
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*self._files)
                self.context.load_cert_chain(*self._files)
            except OSError as error:
                log.warning("keeps its certificate: %s", error)
            else:
                self._seen = seen
                log.info("has read a new certificate")
