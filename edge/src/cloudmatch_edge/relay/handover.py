"""Which of a device's connections reports the size of which payload: each exactly once.

A payload may be sent by one connection of its device and again by the next, so they must agree on which
reports its size. A connection that takes over begins at a payload and reports the sizes from there on; the
previous one reports those up to there. So a superseded connection asks its successor where that began, and a
connection that begins sends this to the previous one unasked. A connection in between that never had anything
is skipped. If a connection was cut off before it had retransmitted everything in flight, the rest falls back
to the previous one.
"""

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import DevicePaired
from cloudmatch_edge.relay.ports import BusPort

NONE = (0, "")  # no connection


class Handover:
    """The part of one connection (`connection_id`) of a device in one match."""

    def __init__(self, bus: BusPort, app: str, device: str, connection_id: int, paired: DevicePaired) -> None:
        self._bus = bus
        self._app, self._device, self._match = app, device, paired.match
        self._connection_id = connection_id
        # the previous connection that may have sent payloads, and its edge
        self._previous = (paired.previous_connection_id, paired.previous_edge)
        # the newer connection and its edge, while its answer is outstanding
        self._successor = NONE
        # number of the first payload that this connection reports; None while unknown
        self._base: int | None = 0 if paired.matched_connection_id == connection_id else None

    def prefix_on(self, edge: str) -> str:
        """Ack prefix of this end of the match while `edge` holds it."""
        return subjects.ack_prefix(self._app, edge, self._device, self._match)

    @property
    def prefix(self) -> str:
        """Ack prefix of this end of the match here."""
        return self.prefix_on(self._bus.name)

    @property
    def done(self) -> bool:
        """Whether no answer is outstanding."""
        return self._successor == NONE

    def begin(self, base: int) -> None:
        """Begin at payload `base`."""
        self._base = base
        if self._previous != NONE:  # it may have asked a successor that never had anything
            self.answer(*self._previous)

    def supersede(self, connection_id: int, edge: str) -> None:
        """Give way to a newer connection; `edge` is empty if it is unknown."""
        if edge:
            self._successor = connection_id, edge

    def ask(self) -> None:
        """Ask the newer connection where it began."""
        if not self.done:
            self._ask(self._successor, self._connection_id, self._bus.name)

    def _ask(self, asked: tuple[int, str], asker: int, asker_edge: str) -> None:
        connection_id, edge = asked
        payload = subjects.handover_payload(asker, asker_edge, connection_id)
        self._bus.publish(f"{self.prefix_on(edge)}0.{subjects.HANDOVER}", payload)

    def answer(self, connection_id: int, edge: str) -> None:
        """Answer an earlier connection; the previous one answers those before it."""
        if connection_id < self._previous[0]:
            self._ask(self._previous, connection_id, edge)
        elif self._base is not None:
            self._reply(connection_id, edge, self._base, 0)

    def _reply(self, connection_id: int, edge: str, base: int, since: int) -> None:
        payload = subjects.handover_reply_payload(connection_id, since)
        self._bus.publish(f"{self.prefix_on(edge)}{base}.{subjects.HANDOVER_REPLY}", payload)

    def cut_off(self, base: int, since: int, sent: int | None) -> None:
        """End at `base`, where the newer connection began.

        Args:
            since: this connection does not report the sizes before.
            sent: it has sent all payloads before; None: nothing.
        """
        self._successor = NONE
        if sent is None:
            self._base = base
        elif self._previous != NONE and (rest := max(since, sent)) < base:
            self._reply(*self._previous, base, rest)
