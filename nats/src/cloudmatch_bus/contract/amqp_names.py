"""Short strings of AMQP (routing keys, message ids), which have at most 255 bytes, made of ids of any length.

What fits stays as it is. Of what does not, the head remains, followed by ``~`` and a hash of the whole. No
subject token contains a ``~``: neither is mistaken for the other. Whole ids are in headers and bodies.
"""

from functools import lru_cache
from hashlib import blake2b

from cloudmatch_bus.contract.subjects import token

MAX_SHORT = 255  # bytes of a short string
MAX_APP = 200  # bytes of an app in a routing key: the same in every key, so that consumers can bind to it
MARK = "~"
HASH_BYTES = 10
CACHED = 8192  # apps


def fitted(text: str, most: int = MAX_SHORT) -> str:
    """Return ASCII text of at most `most` bytes: the text itself, or its head and a hash."""
    if len(text) <= most:
        return text
    tail = MARK + blake2b(text.encode(), digest_size=HASH_BYTES).hexdigest()
    head = text[: most - len(tail)]
    escape = head.rfind("=", -2)  # of which a part is cut off
    return (head if escape < 0 else head[:escape]) + tail


@lru_cache(CACHED)
def app_key(app: str) -> str:
    """Routing key of what belongs to an app."""
    return fitted(token(app), MAX_APP)


def device_key(app: str, device: str) -> str:
    """Routing key of what belongs to a device."""
    key = app_key(app)
    return f"{key}.{fitted(token(device), MAX_SHORT - len(key) - 1)}"
