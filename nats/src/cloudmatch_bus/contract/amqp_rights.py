"""What each service may do at RabbitMQ, by name, and the file of definitions that a node loads. Pure.

RabbitMQ has three rights, each a regular expression of names of exchanges and queues: to *configure*
(declare, delete), to *write* (publish to an exchange, bind a queue) and to *read* (consume, bind to an
exchange). Both services declare everything, in any order; only bridge-rabbit publishes sizes and devices to
forget, and reads and writes facts that were set aside.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from cloudmatch_bus.contract import amqp, amqp_batches, amqp_forgotten, amqp_set_aside

BRIDGE, ANALYTICS, OPERATOR = "bridge-rabbit", "analytics", "operator"
DEFAULT_EXCHANGE = "amq.default"  # by which RabbitMQ knows the exchange without a name
_EXCHANGES = (amqp.EXCHANGE, amqp_batches.EXCHANGE, amqp_forgotten.EXCHANGE)
_DEAD = (amqp.DEAD_QUEUE, amqp_batches.DEAD_QUEUE, amqp_forgotten.DEAD_QUEUE)  # and their exchanges
_QUEUES = (amqp.QUEUE, amqp_batches.QUEUE, amqp_forgotten.QUEUE)


class Rights(NamedTuple):
    """Regular expressions of what a user may configure, write and read."""

    configure: str
    write: str
    read: str


def _only(*names: str) -> str:
    return f"^({'|'.join(map(re.escape, names))})$"


def rights(outputs: Iterable[str] = (), inputs: Iterable[str] = ()) -> dict[str, Rights]:
    """Return the rights of each user.

    Args:
        outputs: plain queues of the bridge.
        inputs: plain queues of analytics.
    """
    common = (*_EXCHANGES, *_DEAD, *_QUEUES)
    bridge = (*common, amqp_set_aside.QUEUE, *outputs)
    plain = tuple(inputs)
    return {
        BRIDGE: Rights(_only(*bridge), _only(*bridge, DEFAULT_EXCHANGE), _only(*bridge)),
        ANALYTICS: Rights(_only(*common, *plain), _only(*_DEAD, *_QUEUES), _only(*common, *plain)),
        OPERATOR: Rights(".*", ".*", ".*"),
    }


def password_hash(password: str, salt: bytes) -> str:
    """Hash a password as RabbitMQ does; the salt has four bytes."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def definitions(users: Mapping[str, Rights], hashes: Mapping[str, str]) -> bytes:
    """Render the file that a node loads at start: these users with their rights.

    Args:
        hashes: user → hash of the password; those without rights may do nothing.
    """
    return msgspec.json.format(
        msgspec.json.encode(
            {
                "vhosts": [{"name": "/"}],
                "users": [
                    {
                        "name": name,
                        "password_hash": each,
                        "hashing_algorithm": "rabbit_password_hashing_sha256",
                        "tags": [],
                    }
                    for name, each in hashes.items()
                ],
                "permissions": [
                    {"user": name, "vhost": "/", **each._asdict()} for name, each in users.items()
                ],
            }
        )
    )
