"""Routes messages between edges: acks, positions, and handovers between connections of a device."""

import asyncio
import logging

from prometheus_client import Gauge

from cloudmatch_bus.client.connection import Headers, no_responders
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import decode_position
from cloudmatch_bus.contract.unreadable import UNREADABLE
from cloudmatch_bus.process.summary import Summary
from cloudmatch_edge.relay.match import Match
from cloudmatch_edge.relay.ports import BusPort

_malformed = Summary(logging.getLogger("acks"), "malformed positions dropped")

LINGER = 5.0  # s for which messages to an ended or superseded match are still routed

_matched = Gauge("cloudmatch_edge_matched", "Matches of devices on this edge")


class AckRouter:
    """Finds the local end of a match that a message is for."""

    def __init__(self, bus: BusPort) -> None:
        self._bus = bus
        # ack prefix → local ends of that match, one for each connection of the device, newest last
        self._matches: dict[str, list[Match]] = {}
        # (ack prefix, connection that never had the match) → where its successor began, and since
        self._skipped: dict[tuple[str, int], tuple[int, int]] = {}

    def add(self, match: Match) -> None:
        """Route messages to a match."""
        self._matches.setdefault(match.prefix, []).append(match)
        _matched.set(len(self._matches))

    def find(self, prefix: str, connection_id: int) -> Match | None:
        """Return the local end of a match on this connection."""
        matches = self._matches.get(prefix, [])
        return next((match for match in matches if match.connection_id == connection_id), None)

    def remove(self, match: Match) -> None:
        """Stop routing messages to a match."""
        matches = self._matches.get(match.prefix, [])
        if match in matches:
            matches.remove(match)
        if not matches:
            self._matches.pop(match.prefix, None)
        _matched.set(len(self._matches))

    def route(self, address: subjects.ReplyAddress, payload: bytes, headers: Headers) -> bool:
        """Route a message; return False if it asks for the position of a match that is not here."""
        matches = self._matches.get(address.prefix, [])
        if address.shape == subjects.ACK:
            if (ack := subjects.parse_ack(payload)) is not None:
                delivered, connection_id, to = ack
                for match in matches:
                    if match.connection_id == to:
                        match.on_ack(address.seq, delivered, connection_id)
        elif address.shape == subjects.POSITION:
            self._on_position(matches, payload)
            return bool(matches)
        elif address.shape == subjects.HANDOVER:
            self._on_handover(address, payload)
        elif address.shape == subjects.HANDOVER_REPLY:
            self._on_handover_reply(address, payload)
        elif matches and no_responders(headers):
            matches[-1].outbound.no_responders(address.seq)
        return True

    @staticmethod
    def _on_position(matches: list[Match], payload: bytes) -> None:
        try:
            position = decode_position(payload)
        except UNREADABLE as error:
            _malformed.add(error)
            return
        for match in matches if position.to else matches[-1:]:  # a question is for the newest
            if position.to in (0, match.connection_id):
                match.on_position(position)

    def _on_handover(self, address: subjects.ReplyAddress, payload: bytes) -> None:
        question = subjects.parse_handover(payload)
        if question is None:
            return
        asker, edge, asked = question
        if (match := self.find(address.prefix, asked)) is not None:
            match.handover.answer(asker, edge)
            return
        if (skipped := self._skipped.get((address.prefix, asked))) is not None:
            base, since = skipped
            subject = f"{subjects.ack_prefix_on(address, edge)}{base}.{subjects.HANDOVER_REPLY}"
            self._bus.publish(subject, subjects.handover_reply_payload(asker, since))

    def _on_handover_reply(self, address: subjects.ReplyAddress, payload: bytes) -> None:
        reply = subjects.parse_handover_reply(payload)
        if reply is None:
            return
        connection_id, since = reply
        if (match := self.find(address.prefix, connection_id)) is not None:
            match.on_handover_reply(address.seq, since)
            return
        key = address.prefix, connection_id
        self._skipped[key] = address.seq, since
        asyncio.get_running_loop().call_later(LINGER, self._skipped.pop, key, None)
