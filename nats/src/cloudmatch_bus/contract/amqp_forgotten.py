"""The AMQP contract of devices to forget, from bridge-rabbit to analytics. No driver here.

Each fact `DeviceForgotten` is one persistent message on the topic exchange `EXCHANGE`, with the key ``<app>``
(`amqp_names.app_key`) and the fact as its body. It may come twice: forgetting twice changes nothing. Versions
that forget nobody do not know the queue; there it waits for one that does.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from cloudmatch_bus.contract.amqp import Channel, Q, UnreadableError, declare_bound
from cloudmatch_bus.contract.amqp_batches import Time
from cloudmatch_bus.contract.unreadable import UNREADABLE

EXCHANGE = "cloudmatch.forgotten"  # topic
QUEUE = "cloudmatch.forgotten.analytics"  # bound to EXCHANGE with '#'
DEAD_QUEUE = "cloudmatch.forgotten.dead"  # and its exchange, fanout


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """What analytics reads of a `DeviceForgotten`."""

    app: str
    at: Time  # what is from before this is to be erased
    device: Annotated[str, Meta(min_length=1)]


_decode = msgspec.json.Decoder(Forgotten).decode


def decode(body: bytes) -> Forgotten:
    """Decode the body of a message.

    Raises:
        UnreadableError: it names no device; the text gives the reason.
    """
    try:
        return _decode(body)
    except UNREADABLE as error:
        raise UnreadableError(str(error)) from None


async def declare(channel: Channel[Q], queue_type: str) -> Q:
    """Declare exchanges and queues, and return `QUEUE`. Both services call it, in any order.

    Args:
        queue_type: classic or quorum.
    """
    return await declare_bound(channel, EXCHANGE, QUEUE, DEAD_QUEUE, queue_type)
