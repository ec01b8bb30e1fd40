"""Route batches of payloads, and their acks, from one device's edge to its peer's."""

import logging

from cloudmatch_bus.client.connection import Bus, Headers
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.claims import FalseClaimError
from cloudmatch_bus.process.counter import PlainCounter
from cloudmatch_bus.process.summary import Summary
from cloudmatch_match_engine.core.keys import DeviceId, source_of
from cloudmatch_match_engine.core.roster import Roster
from cloudmatch_match_engine.dropped import drop, dropped
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
        """Forward a batch of an `up` subject if its device is in that match, on the edge that says it."""
        source = source_of(subject)
        if source is None:
            dropped.labels("no_address").inc()
            return
        device, edge = source
        route = self._roster.route(device)
        if route is not None and reply.startswith(route.prefix) and (edge == route.edge or not edge):
            self._bus.publish(route.subject, payload, reply)
            _routed.value += 1
            return
        address = subjects.parse_reply(reply)
        if address is None or device != (address.app, address.device):
            dropped.labels("no_address").inc()
        elif edge and edge != address.edge:
            drop(subject, FalseClaimError(subject, f"of edge '{subjects.untoken(address.edge)}'"))
        elif device not in self._verifying and len(self._verifying) < VERIFYING:
            self._verifying.add(device)
            self._bus.spawn(self._verify(device, address))

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
