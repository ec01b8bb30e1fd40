"""The AMQP contract of batches of sizes, from bridge-rabbit to analytics. No driver here.

Each fact that counts sizes is one persistent message on the topic exchange `EXCHANGE`, with the key ``<app>``
(a subject token), the position in EVENTS as its id, and a `DeliveriesCounted` as its body. A message that
cannot be read is rejected and becomes a dead letter: `DEAD_QUEUE` keeps it as it was.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from cloudmatch_bus.contract.amqp import UnreadableError
from cloudmatch_bus.contract.deliveries import Totals

EXCHANGE = "cloudmatch.sizes"  # topic
QUEUE = "cloudmatch.sizes.analytics"  # bound to EXCHANGE with '#'
DEAD_EXCHANGE = "cloudmatch.sizes.dead"  # fanout
DEAD_QUEUE = "cloudmatch.sizes.dead"
CONTENT_TYPE = "application/json"

Time = Annotated[int, Meta(ge=0)]  # ms since 1970


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
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableError(str(error)) from None
