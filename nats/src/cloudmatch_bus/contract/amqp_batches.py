"""The AMQP contract of batches of sizes, from bridge-rabbit to analytics. No driver here.

Each fact that counts sizes is one persistent message on the topic exchange `EXCHANGE`, with the key ``<app>``
(`amqp_names.app_key`) and a `DeliveriesCounted` as its body. Its id is that of the fact, the same whenever
it comes again: ``<source>.<start>.<number>``; of facts without a number the position in EVENTS. A message
that cannot be read is rejected and becomes a dead letter: `DEAD_QUEUE` keeps it as it was.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from cloudmatch_bus.contract.amqp import MAX_TIME, Channel, Q, UnreadableError, declare_bound
from cloudmatch_bus.contract.deliveries import Totals
from cloudmatch_bus.contract.unreadable import UNREADABLE

EXCHANGE = "cloudmatch.sizes"  # topic
QUEUE = "cloudmatch.sizes.analytics"  # bound to EXCHANGE with '#'
DEAD_EXCHANGE = "cloudmatch.sizes.dead"  # fanout
DEAD_QUEUE = "cloudmatch.sizes.dead"
CONTENT_TYPE = "application/json"

Time = Annotated[int, Meta(ge=0, lt=MAX_TIME)]  # ms since 1970


class SizesBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What analytics reads of a `DeliveriesCounted`."""

    app: str
    at: Time
    spans: Annotated[list[Totals], Meta(min_length=1)]


_decode = msgspec.json.Decoder(SizesBatch).decode


def decode(body: bytes) -> SizesBatch:
    """Decode the body of a message.

    Raises:
        UnreadableError: it is not a batch; the text gives the reason.
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
