"""How a device's frames share one NATS message: payloads concatenated, shapes in the reply address.

The payload of a message is the bytes of the socket frames and nothing else. Kinds and lengths ride in
the last token of the reply address: ``t4`` is a text of 4 bytes, ``t4-t12-b300`` a batch of three frames.
"""

from collections.abc import Sequence

from cloudmatch_bus.contract.memo import Memo

CACHED_SHAPES = 4096  # shapes of single frames, of each kind
BATCH_PAYLOADS = 64  # frames in one message, at most
BATCH_BYTES = 64 * 1024  # payload bytes in one message, at most (a single larger frame travels alone)

# One payload of a device: whether it is text, and its bytes (of a text: UTF-8). There are so many that they
# are no class of their own: a plain tuple is made in a fifth of the time.
Payload = tuple[bool, bytes]


def _read(shape: str) -> tuple[bool, int]:
    if shape[:1] not in ("t", "b") or not shape[1:].isascii() or not shape[1:].isdigit():
        raise ValueError(f"a shape has no kind and length at {shape!r}")
    return shape[0] == "t", int(shape[1:])


_WRITTEN = {
    text: Memo[int, str](form.format, CACHED_SHAPES) for text, form in ((True, "t{}"), (False, "b{}"))
}
_READ = Memo(_read, 2 * CACHED_SHAPES)


def shape_of(frame: Payload) -> str:
    """Kind and length, as the reply address carries them."""
    text, data = frame
    return _WRITTEN[text][len(data)]


def join(frames: Sequence[Payload]) -> tuple[str, bytes]:
    """Give the shape and the payload of one message that carries these frames."""
    if len(frames) == 1:
        return shape_of(frames[0]), frames[0][1]
    shape = "-".join([_WRITTEN[text][len(data)] for text, data in frames])
    return shape, b"".join([data for _, data in frames])


def pack(frames: Sequence[Payload]) -> list[tuple[str, bytes, list[int]]]:
    """Put frames into messages within `BATCH_PAYLOADS` and `BATCH_BYTES`, in order.

    Returns:
        Of each message its shape, its payload, and the size in bytes of each of its frames.
    """
    if not frames:
        return []
    sizes = [len(data) for _, data in frames]
    out = []
    start = total = 0
    if len(sizes) > BATCH_PAYLOADS or sum(sizes) > BATCH_BYTES:
        for at, size in enumerate(sizes):
            if at - start == BATCH_PAYLOADS or (at > start and total + size > BATCH_BYTES):
                out.append((*join(frames[start:at]), sizes[start:at]))
                start, total = at, 0
            total += size
    out.append((*join(frames[start:]), sizes[start:]))
    return out


def split(shape: str, payload: bytes) -> list[Payload]:
    """Take a message apart into its frames.

    Raises:
        ValueError: the shape is malformed, or its lengths do not add up to the payload.
    """
    frames = []
    at = 0
    for part in shape.split("-"):
        text, length = _READ[part]
        end = at + length
        frames.append((text, payload[at:end]))
        at = end
    if at != len(payload):
        raise ValueError(f"shape {shape!r} speaks of {at} bytes, the message has {len(payload)}")
    return frames
