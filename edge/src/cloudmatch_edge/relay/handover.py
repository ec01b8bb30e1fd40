"""Which of a device's connections tells the size of which payload: each exactly once.

A payload may be sent by one connection of its device and again by the next; who tells its size must be
agreed on. A connection that takes over begins at a payload and tells the sizes from there on; the one
before it tells those up to there. So one that is superseded asks its successor where that began, and one
that begins tells it to the one before unasked. A connection between them that never had anything is passed
over. Where one was cut off before it had sent again all that was on its way, the rest falls back to the one
before.
"""

from typing import Protocol

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import DevicePaired

NOBODY = (0, "")  # no connection


class Wire(Protocol):
    """What it needs of the relay."""

    name: str

    def publish(self, subject: str, payload: bytes) -> bool:
        """Send to the bus, without waiting."""


class Handover:
    """The part of one connection (`connection_id`) of a device in one match."""

    def __init__(
        self, app: str, device: str, match: int, connection_id: int, wire: Wire, paired: DevicePaired
    ) -> None:
        self._app, self._device, self._match = app, device, match
        self._session = connection_id
        self._wire = wire
        self._prior = (
            paired.previous_connection_id,
            paired.previous_edge,
        )  # the connection before: session, edge
        self._successor = NOBODY  # the connection after, while it is to be asked
        # number of the first payload that is this connection's to tell; None while that is not known
        self._began: int | None = 0 if paired.matched_connection_id == connection_id else None

    def at(self, edge: str) -> str:
        """Give the beginning of where this very end of the match is spoken to while `edge` has it."""
        return subjects.ack_prefix(self._app, edge, self._device, self._match)

    @property
    def prefix(self) -> str:
        """Where it is spoken to here."""
        return self.at(self._wire.name)

    @property
    def done(self) -> bool:
        """Whether nobody is to be asked."""
        return self._successor == NOBODY

    def begin(self, base: int) -> None:
        """This connection goes on from payload `base`."""
        self._began = base
        if self._prior != NOBODY:  # it may know of another successor, which never had anything
            self.answer(*self._prior)

    def supersede(self, connection_id: int, edge: str) -> None:
        """There is a newer connection, known unless `edge` is empty."""
        if edge:
            self._successor = connection_id, edge

    def ask(self) -> None:
        """Ask the newer connection where it began."""
        if not self.done:
            self._ask(self._successor, self._session, self._wire.name)

    def _ask(self, asked: tuple[int, str], asker: int, edge: str) -> None:
        connection_id, its_edge = asked
        payload = subjects.handover_payload(asker, edge, connection_id)
        self._wire.publish(f"{self.at(its_edge)}0.{subjects.HANDOVER}", payload)

    def answer(self, connection_id: int, edge: str) -> None:
        """Answer an earlier connection; what one before the last asks is passed on to the last."""
        if connection_id < self._prior[0]:
            self._ask(self._prior, connection_id, edge)
        elif self._began is not None:
            self._tell(connection_id, edge, self._began, 0)

    def _tell(self, connection_id: int, edge: str, base: int, since: int) -> None:
        payload = subjects.handover_reply_payload(connection_id, since)
        self._wire.publish(f"{self.at(edge)}{base}.{subjects.HANDOVER_REPLY}", payload)

    def cut_off(self, base: int, since: int, sent: int | None) -> None:
        """The newer connection began at `base`; this one has sent all before `sent` (None: nothing)."""
        self._successor = NOBODY
        if sent is None:
            self._began = base
        elif self._prior != NOBODY and (rest := max(since, sent)) < base:
            self._tell(*self._prior, base, rest)
