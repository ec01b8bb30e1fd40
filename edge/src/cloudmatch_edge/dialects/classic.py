"""The dialect of 2019: plain text in, plain sentences out.

Every text a device sends is payload for its match. What it hears are three sentences. The end of a match
is not told: the device waits silently for the next. What its socket took counts as received.
"""

from collections.abc import Sequence

from cloudmatch_bus.contract.payloads import Payload
from cloudmatch_edge.dialects.base import Refuse, Send, Wish
from cloudmatch_edge.dialects.close_codes import GOING_AWAY, UNSUPPORTED_DATA


def _sentence(text: str) -> list[Payload]:
    return [(True, text.encode())]


class Classic:
    """The conversation of one device of 2019."""

    going_away = GOING_AWAY.code
    resumable = False
    acknowledges = False

    def __init__(self, edge: str) -> None:
        self._edge = edge

    def connected(self) -> list[Payload]:
        return _sentence(f"Connected and handled by {self._edge}")

    def matched(self, _match: int, peer: str, _distance: float, _at: int) -> list[Payload]:
        return _sentence(f"I matched with device '{peer}'!")

    def heard(self, peer: str, _first: int, payloads: Sequence[Payload]) -> list[Payload]:
        """Binary payloads (of peers that speak other dialects) stay as they are."""
        prefix = f"device {peer} says: ".encode()
        return [(True, prefix + data) if text else (text, data) for text, data in payloads]

    def take(self, frames: list[Payload]) -> list[Wish]:
        texts = [text for text, _ in frames]
        if all(texts):
            return [Send(frames)]
        return [
            Send(frames[: texts.index(False)]),
            Refuse(UNSUPPORTED_DATA.code, "this dialect knows text only"),
        ]

    # -- what is not told

    def waiting(self, _at: int) -> list[Payload]:
        return []

    def resumed(self, _match: int, _peer: str, _distance: float, _taken: int) -> list[Payload]:
        return []

    def taken(self, _total: int, _refs: Sequence[str]) -> list[Payload]:
        return []

    def away(self, _peer: str) -> list[Payload]:
        return []

    def back(self, _peer: str) -> list[Payload]:
        return []

    def left(self, _peer: str, _reason: str) -> list[Payload]:
        return []

    def gap(self, _first: int, _end: int, _reason: str) -> list[Payload]:
        return []

    def undeliverable(self, _send: Send) -> list[Payload]:
        return []

    def limited(self) -> list[Payload]:
        return []
