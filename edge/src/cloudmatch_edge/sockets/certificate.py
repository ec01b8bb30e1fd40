"""The TLS certificate. Reloaded when the files change; new connections get the new certificate."""

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Any

from cloudmatch_bus.process.file_version import file_version

log = logging.getLogger("certificate")

HANDSHAKE_TIMEOUT = 5.0  # s
SHUTDOWN_TIMEOUT = 2.0  # s
INTERVAL = 2.0  # s between two checks of the files


class Certificate:
    """A certificate chain and its key, in two files (PEM).

    Raises:
        OSError: they are missing or invalid.
    """

    def __init__(self, chain: str, key: str) -> None:
        self._files = chain, key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._version = self._stat()
        self.context.load_cert_chain(*self._files)
        # for asyncio's `create_server`
        self.options: dict[str, Any] = {
            "ssl": self.context,
            "ssl_handshake_timeout": HANDSHAKE_TIMEOUT,
            "ssl_shutdown_timeout": SHUTDOWN_TIMEOUT,
        }

    def _stat(self) -> list[tuple[int, int, int]]:
        return [file_version(Path(file)) for file in self._files]

    async def watch(self) -> None:
        """Reload the files whenever they change, until cancelled; an invalid pair is not loaded."""
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                version = self._stat()
                if version == self._version:
                    continue
                # A chain whose key is yet to come would leave the context with neither.
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*self._files)
                self.context.load_cert_chain(*self._files)
            except OSError as error:
                log.warning("certificate not reloaded: %s", error)
            else:
                self._version = version
                log.info("certificate reloaded")
