"""What has arrived of a message: every honest one fits, however it is escaped, and takes little memory."""

import json
import random
import sys
from collections.abc import Callable

import pytest

from cloudmatch_edge.sockets.unfinished import Unfinished

PLAIN = 256 * 1024
PIECE = 10_000
RNG = random.Random(7)  # noqa: S311  # repeatable, no secret

SCRIPTS: dict[str, Callable[[], str]] = {
    "NUL": lambda: "\0" * PLAIN,
    "control characters": lambda: "".join(chr(RNG.randrange(32)) for _ in range(PLAIN)),
    "ASCII": lambda: "".join(chr(RNG.randrange(128)) for _ in range(PLAIN)),
    "two bytes": lambda: "".join(chr(RNG.randrange(0x80, 0x800)) for _ in range(PLAIN // 2)),
    "three bytes": lambda: "".join(chr(RNG.randrange(0x800, 0xD800)) for _ in range(PLAIN // 3)),
    "four bytes": lambda: "".join(chr(RNG.randrange(0x10000, 0x110000)) for _ in range(PLAIN // 4)),
}


def escaped(text: str) -> bytes:
    """Escape each character, which JSON allows."""
    units = text.encode("utf-16-be")
    return b'"%b"' % b"".join(b"\\u%02x%02x" % (units[i], units[i + 1]) for i in range(0, len(units), 2))


def held(message: Unfinished) -> int:
    return sys.getsizeof(message._data)


@pytest.mark.parametrize("script", SCRIPTS)
def test_random_text_of_the_largest_size_fits_with_each_character_escaped(script: str) -> None:
    text = SCRIPTS[script]()
    data, message = escaped(text), Unfinished(PLAIN)
    assert json.loads(data) == text
    for at in range(0, len(data), PIECE):
        assert message.add(data[at : at + PIECE])
        assert held(message) < 2 * PLAIN * 9 // 8, "bytearrays grow by an eighth"
    assert message.take() == data


def test_what_is_short_is_kept_as_it_is() -> None:
    message = Unfinished(10)
    assert message.add(b"01234")
    assert message.add(b"56789")
    assert message.parts == 2
    assert message._data == b"0123456789"
    assert message.take() == b"0123456789"
    assert message.add(b"!")
    assert message.take() == b"0123456789!"


def test_noise_is_refused_once_it_takes_twice_as_much() -> None:
    message, added = Unfinished(PLAIN), 0
    while message.add(RNG.randbytes(PIECE)):
        added += PIECE
        assert added <= 2 * PLAIN + 24 * 1024
    assert added >= 2 * PLAIN - PIECE
