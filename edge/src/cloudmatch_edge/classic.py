"""The dialect of 2019: plain text in, plain sentences out.

Every text a device sends is payload for its match. What it hears are three sentences. The end of a match
is not told: the device waits silently for the next.
"""

from cloudmatch_bus.frames import Frame

UNSUPPORTED = 1003  # close code


class RefusedError(Exception):
    """The device sent what its dialect does not have; the connection is to be closed."""

    def __init__(self, code: int, reason: str, before: list[Frame]) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.before = before


def connected(edge: str) -> Frame:
    """Greet a device."""
    return _sentence(f"Connected and handled by {edge}")


def matched(peer: str) -> Frame:
    """Tell a device whom it is matched with."""
    return _sentence(f"I matched with device '{peer}'!")


def heard(peer: str, payload: Frame) -> Frame:
    """Pass on what the peer sent. Binary payloads (of peers that speak other dialects) stay as they are."""
    if not payload.text:
        return payload
    return Frame(True, f"device {peer} says: ".encode() + payload.data)


def payloads(frames: list[Frame]) -> list[Frame]:
    """Take what the device sent as payloads for its match.

    Raises:
        RefusedError: one is binary; its `before` are those that came before it.
    """
    for at, frame in enumerate(frames):
        if not frame.text:
            raise RefusedError(UNSUPPORTED, "this dialect knows text only", frames[:at])
    return frames


def _sentence(text: str) -> Frame:
    return Frame(True, text.encode())
