"""Route batches of payloads, and their acks, from one device's edge to its peer's."""

import logging

from cloudmatch_bus.client.connection import Bus, Headers
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.process.counter import PlainCounter
from cloudmatch_bus.process.summary import Summary
from cloudmatch_match_engine.core.keys import DeviceId, source_of
from cloudmatch_match_engine.core.roster import Roster
from cloudmatch_match_engine.dropped import dropped
from cloudmatch_match_engine.pairing.handler import PairingHandler

log = logging.getLogger("routing")

_routed = PlainCounter("cloudmatch_match_engine_routed", "Batches routed to the peer's edge")
VERIFYING = 64  # devices verified at a time; batches of further ones are dropped, and come again


class BatchRouter:
    """Routes by the mirror; keeps nothing per batch, as edges retransmit what is not acknowledged."""

    def __init__(self, bus: Bus, roster: Roster, handler: PairingHandler) -> None:
        self._bus = bus
        self._roster = roster
        self._handler = handler
        self._unrouted = Summary(log, "no route for batches")
        # devices that are being verified at the leader
        self._verifying: set[DeviceId] = set()

    def on_batch(self, subject: str, reply: str, payload: bytes, _: Headers) -> None:
        """Forward a batch of an `up` subject if the mirror shows its device in that match, on that edge."""
        source = source_of(subject)
        route = None if source is None else self._roster.route(source)
        if route is not None and reply.startswith(route.prefix):
            self._bus.publish(route.subject, payload, reply)
            _routed.value += 1
            return
        address = subjects.parse_reply(reply)
        if source is None or address is None or source != (address.app, address.device):
            dropped.labels("no_address").inc()
        elif source not in self._verifying and len(self._verifying) < VERIFYING:
            self._verifying.add(source)
            self._bus.spawn(self._verify(source, address))

    async def _verify(self, source: DeviceId, address: subjects.ReplyAddress) -> None:
        """Find out whether the mirror or the device's edge is behind; bring it up to date."""
        app, device = subjects.untoken(source.app), subjects.untoken(source.device)
        try:
            if not await self._handler.catch_up(app, device, address.match, subjects.untoken(address.edge)):
                dropped.labels("stale_match").inc()
                await self._handler.resend_state(app, device)
        except TimeoutError as error:
            self._unrouted.add(f"{app}/{device}: {error}")
        finally:
            self._verifying.discard(source)
