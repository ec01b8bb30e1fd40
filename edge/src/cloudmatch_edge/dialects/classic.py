"""The dialect of 2019: plain text in, plain sentences out.

Every text of a device is a payload. The device gets three sentences. The end of a match is not announced: the
device waits silently for the next one. What its socket took counts as delivered.
"""

from collections.abc import Sequence

from cloudmatch_bus.contract.payloads import Payload
from cloudmatch_edge.dialects.base import Close, Command, Send, SocketFrame
from cloudmatch_edge.dialects.close_codes import GOING_AWAY, UNSUPPORTED_DATA


def _sentence(text: str) -> list[SocketFrame]:
    return [(True, text.encode())]


class Classic:
    """The conversation of one classic device."""

    going_away = GOING_AWAY
    resumable = False
    acknowledges = False

    def __init__(self, edge: str) -> None:
        self._edge = edge

    def connected(self) -> list[SocketFrame]:
        return _sentence(f"Connected and handled by {self._edge}")

    def matched(self, _match: int, peer: str, _distance: float, _at: int) -> list[SocketFrame]:
        return _sentence(f"I matched with device '{peer}'!")

    def payloads(self, peer: str, _first: int, payloads: Sequence[Payload]) -> list[SocketFrame]:
        """Write binary payloads (of peers with another dialect) unchanged."""
        prefix = f"device {peer} says: ".encode()
        return [(True, prefix + data) if text else (text, data) for text, data in payloads]

    def parse(self, frames: list[SocketFrame]) -> list[Command]:
        texts = [text for text, _ in frames]
        if all(texts):
            return [Send(frames)]
        return [
            Send(frames[: texts.index(False)]),
            Close(UNSUPPORTED_DATA, "classic devices send text only"),
        ]

    # -- events that are not announced

    def waiting(self, _at: int) -> list[SocketFrame]:
        return []

    def resumed(self, _match: int, _peer: str, _distance: float, _delivered: int) -> list[SocketFrame]:
        return []

    def delivered(self, _total: int, _refs: Sequence[str]) -> list[SocketFrame]:
        return []

    def peer_away(self, _peer: str) -> list[SocketFrame]:
        return []

    def peer_back(self, _peer: str) -> list[SocketFrame]:
        return []

    def peer_left(self, _peer: str, _reason: str) -> list[SocketFrame]:
        return []

    def gap(self, _first: int, _end: int, _reason: str) -> list[SocketFrame]:
        return []

    def false_count(self, _count: int, _sent: int) -> list[SocketFrame]:
        return []

    def undeliverable(self, _send: Send) -> list[SocketFrame]:
        return []

    def rate_limited(self) -> list[SocketFrame]:
        return []

    def denied(self, code: str, detail: str) -> list[SocketFrame]:
        return []

    def token_expires(self, seconds: int) -> list[SocketFrame]:
        return []

    def renewed(self, expires: float | None) -> list[SocketFrame]:
        return []
