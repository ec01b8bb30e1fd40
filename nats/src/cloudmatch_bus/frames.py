"""How a device's frames share one NATS message: payloads concatenated, shapes in the reply address.

The payload of a message is the bytes of the socket frames and nothing else. Kinds and lengths ride in
the last token of the reply address: ``t4`` is a text of 4 bytes, ``t4-t12-b300`` a batch of three frames.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

REMEMBERED = 4096  # shapes of single frames
BATCH_FRAMES = 64  # frames in one message, at most
BATCH_BYTES = 64 * 1024  # payload bytes in one message, at most (a single larger frame travels alone)


class Frame(NamedTuple):
    """One payload of a device: `data` is UTF-8 when it is text."""

    text: bool
    data: bytes

    @property
    def shape(self) -> str:
        """Kind and length, as the reply address carries them."""
        return _write(self.text, len(self.data))


@lru_cache(REMEMBERED)
def _write(text: bool, length: int) -> str:
    return f"{'t' if text else 'b'}{length}"


@lru_cache(REMEMBERED)
def _read(shape: str) -> tuple[bool, int]:
    if shape[:1] not in ("t", "b") or not shape[1:].isascii() or not shape[1:].isdigit():
        raise ValueError(f"a shape has no kind and length at {shape!r}")
    return shape[0] == "t", int(shape[1:])


def join(frames: Sequence[Frame]) -> tuple[str, bytes]:
    """Give the shape and the payload of one message that carries these frames."""
    if len(frames) == 1:
        return frames[0].shape, frames[0].data
    shape = "-".join([_write(text, len(data)) for text, data in frames])
    return shape, b"".join([data for _, data in frames])


def split(shape: str, payload: bytes) -> list[Frame]:
    """Take a message apart into its frames.

    Raises:
        ValueError: the shape is malformed, or its lengths do not add up to the payload.
    """
    if shape == f"t{len(payload)}":  # as of most: one text
        return [Frame(True, payload)]
    frames = []
    at = 0
    for part in shape.split("-"):
        text, length = _read(part)
        end = at + length
        frames.append(Frame(text, payload[at:end]))
        at = end
    if at != len(payload):
        raise ValueError(f"shape {shape!r} speaks of {at} bytes, the message has {len(payload)}")
    return frames


def batches(frames: Sequence[Frame]) -> list[Sequence[Frame]]:
    """Cut frames into batches within `BATCH_FRAMES` and `BATCH_BYTES`, in order."""
    if len(frames) <= BATCH_FRAMES and sum([len(data) for _, data in frames]) <= BATCH_BYTES:
        return [frames] if frames else []
    out: list[list[Frame]] = []
    size = 0
    for frame in frames:
        if not out or len(out[-1]) >= BATCH_FRAMES or size + len(frame.data) > BATCH_BYTES:
            out.append([])
            size = 0
        out[-1].append(frame)
        size += len(frame.data)
    return [*out]
