"""What has arrived of a message, until it is complete: as it is while it is short, deflated beyond that.

JSON may escape a byte as six, so an honest message may be six times as long as its payload. Escapes deflate
well: random characters, all escaped, took 1.7 times the size of their payload, the most of all that was
tried. What takes more than twice is no such message.
"""

import zlib
from typing import Any

LEVEL, WINDOW, MEMORY = 1, -12, 4  # little memory, 24 KB; 100 MB/s


class Unfinished:
    """Bytes of a message.

    Args:
        plain: how many are kept as they are, at most.
    """

    __slots__ = ("_data", "_deflater", "_plain", "parts")

    def __init__(self, plain: int) -> None:
        self.parts = 0  # added so far
        self._data = bytearray()
        self._plain = plain
        self._deflater: Any = None  # zlib's, whose type has no name

    def add(self, data: bytes) -> bool:
        """Append bytes; return whether they may still become a message."""
        self.parts += 1
        if self._deflater is None:
            self._data += data
            if len(self._data) <= self._plain:
                return True
            self._deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, WINDOW, MEMORY)
            data, self._data = bytes(self._data), bytearray()
        self._data += self._deflater.compress(data)
        return len(self._data) <= 2 * self._plain

    def take(self) -> bytes:
        """Return all, once it is complete."""
        if self._deflater is None:
            return bytes(self._data)
        return zlib.decompress(self._data + self._deflater.flush(), WINDOW)
