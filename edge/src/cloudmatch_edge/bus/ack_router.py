"""Whom a message between edges is for: acks, and what connections tell each other when a device moves."""

import asyncio
import logging
from collections.abc import Callable

import msgspec
from prometheus_client import Gauge

from cloudmatch_bus.client.connection import Headers, no_responders
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import DeviceReplaced, decode_position
from cloudmatch_edge.relay.match import Match

log = logging.getLogger("ends")

LINGER = 5.0  # s for which an end that is over, or elsewhere, is still spoken to

_matched = Gauge("cloudmatch_edge_matched", "Matches that are listened for here")


class Ends:
    """The ends of matches on one edge. `publish` sends to the bus."""

    def __init__(self, publish: Callable[[str, bytes], bool]) -> None:
        self._publish = publish
        # beginning of the subjects of its acks → the end, once for each connection that lately had it
        self._ends: dict[str, list[Match]] = {}
        # (that, session of a connection which never had the end) → where the one after it began, and since
        self._skipped: dict[tuple[str, int], tuple[int, int]] = {}

    def add(self, end: Match) -> None:
        """Listen for an end."""
        self._ends.setdefault(end.prefix, []).append(end)
        _matched.set(len(self._ends))

    def remove(self, end: Match) -> None:
        """Listen no more."""
        ends = self._ends.get(end.prefix, [])
        if end in ends:
            ends.remove(end)
        if not ends:
            self._ends.pop(end.prefix, None)
        _matched.set(len(self._ends))

    def hear(self, address: subjects.ReplyAddress, payload: bytes, headers: Headers) -> bool:
        """Take a message; False when it asks about an end that is not here."""
        ends = self._ends.get(address.prefix, [])
        if address.shape == subjects.ACK:
            if (ack := subjects.parse_ack(payload)) is not None:
                taken, connection_id, to = ack
                for end in ends:
                    if end.connection_id == to:
                        end.acked(address.seq, taken, connection_id)
        elif address.shape == subjects.POSITION:
            self._hear_position(ends, payload)
            return bool(ends)
        elif address.shape == subjects.HANDOVER:
            self._hear_question(ends, address, payload)
        elif address.shape == subjects.HANDOVER_REPLY:
            self._hear_began(ends, address, payload)
        elif ends and no_responders(headers):
            ends[-1].refused(address.seq)
        return True

    @staticmethod
    def _hear_position(ends: list[Match], payload: bytes) -> None:
        try:
            position = decode_position(payload)
        except msgspec.DecodeError as error:
            log.warning("not a position: %s", error)
            return
        for end in ends if position.to else ends[-1:]:  # a question is for the newest
            if position.to in (0, end.connection_id):
                end.hear_position(position)

    def _hear_question(self, ends: list[Match], address: subjects.ReplyAddress, payload: bytes) -> None:
        question = subjects.parse_handover(payload)
        if question is None:
            return
        asker, edge, asked = question
        for end in ends:
            if end.connection_id == asked:
                end.handover.answer(asker, edge)
                return
        if (skipped := self._skipped.get((address.prefix, asked))) is not None:
            base, since = skipped
            answer = f"{subjects.ack_prefix_on(address, edge)}{base}.{subjects.HANDOVER_REPLY}"
            self._publish(answer, subjects.handover_reply_payload(asker, since))

    def _hear_began(self, ends: list[Match], address: subjects.ReplyAddress, payload: bytes) -> None:
        told = subjects.parse_handover_reply(payload)
        if told is None:
            return
        connection_id, since = told
        for end in ends:
            if end.connection_id == connection_id:
                end.device.hear_answer(
                    DeviceReplaced(connection_id=connection_id)
                )  # that news may come later
                end.cut_off(address.seq, since)
                return
        key = address.prefix, connection_id
        self._skipped[key] = address.seq, since
        asyncio.get_running_loop().call_later(LINGER, self._skipped.pop, key, None)
