"""The keys with which tokens are verified, read again and again; the last good ones count.

They are in a file, or at a URL. Whatever its server does, those connected stay, and whoever has a token of a
known key comes in.
"""

import asyncio
import contextlib
import logging
import ssl
from pathlib import Path

from prometheus_client import Gauge

from cloudmatch_bus.process.file_version import file_version
from cloudmatch_bus.process.settings import error_text
from cloudmatch_edge.admission import key_set
from cloudmatch_edge.admission.key_set import LARGEST, Keys, KeySetError
from cloudmatch_edge.settings import EdgeSettings
from cloudmatch_edge.sockets import https

log = logging.getLogger("keyring")

FILE_INTERVAL = 2.0  # s between two looks at a file
URL_INTERVAL = 300.0  # s between two readings of a URL that can be read
URL_PAUSE = 10.0  # s between two readings of a URL, at least

_keys = Gauge("cloudmatch_edge_token_keys", "Keys with which tokens of devices are verified")


class Keyring:
    """The keys of one edge."""

    def __init__(self, settings: EdgeSettings) -> None:
        self.keys: Keys | None = None  # None: none yet
        self.problem: str | None = "keys of tokens are not read yet"  # None: these are the newest
        self._algorithms = settings.algorithms
        self._shared = bool(settings.auth_secret_file)
        self._source = settings.auth_secret_file or settings.auth_jwks
        self._remote = "://" in self._source
        self._context = ssl.create_default_context()
        self._asked = asyncio.Event()
        self._version: object = None  # of the file, as it was read

    def missing(self) -> str | None:
        """Why there are no keys."""
        return None if self.keys else self.problem

    def ask(self) -> None:
        """Note that a token names an unknown key: read the keys again, though not at once."""
        self._asked.set()

    async def run(self) -> None:
        """Keep the keys up to date, until cancelled."""
        while True:
            try:
                await self._read()
            except (OSError, KeySetError) as error:
                self._version = None
                problem = f"keys of tokens not read: {self._source}: {error_text(error)}"
                if problem != self.problem:
                    log.warning("%s", problem)
                self.problem = problem
            await self._pause()

    async def _pause(self) -> None:
        if not self._remote:
            await asyncio.sleep(FILE_INTERVAL)
            return
        await asyncio.sleep(URL_PAUSE)
        if self.problem is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), URL_INTERVAL - URL_PAUSE)
        self._asked.clear()

    async def _read(self) -> None:
        data = await https.get(self._source, LARGEST, self._context) if self._remote else self._file()
        if data is not None:
            self._take(data)
        self.problem = None

    def _file(self) -> bytes | None:
        """Return what is in the file; None if it has not changed."""
        file = Path(self._source)
        version = file_version(file)
        if version == self._version:
            return None
        self._version = version
        with file.open("rb") as opened:
            return opened.read(LARGEST + 1)

    def _take(self, data: bytes) -> None:
        if self._shared:
            keys, problems = key_set.shared(data.strip()), list[str]()
        else:
            keys, problems = key_set.read(data, self._algorithms)
        for problem in problems:
            log.warning("key of tokens left out: %s", problem)
        known = self.keys
        self.keys = keys
        if known is None or keys.by_id.keys() != known.by_id.keys() or keys.only != known.only:
            log.info("keys of tokens read: %d", len(keys))
        _keys.set(len(keys))
