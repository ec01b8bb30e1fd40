"""Batches: how payloads of a device share one NATS message.

A message's payload is the payloads' bytes, concatenated, and nothing else. Their kinds and lengths are the
shape, the last token of the reply address: ``t4`` is a text of 4 bytes, ``t4-t12-b300`` a batch of three.
"""

import re
from collections.abc import Sequence

from cloudmatch_bus.contract.memo import Memo

CACHED_SHAPES = 4096  # shapes of single payloads, of each kind
BATCH_PAYLOADS = 64  # payloads in one message, at most
BATCH_BYTES = 64 * 1024  # bytes of payloads in one message, at most; a larger payload travels alone

# One payload of a device: whether it is text, and its bytes (UTF-8 if it is). There are so many that they
# have no class of their own: a plain tuple is made in a fifth of the time.
Payload = tuple[bool, bytes]


def _parse(shape: str) -> tuple[bool, int]:
    if not _ONE.fullmatch(shape):
        raise ValueError(f"malformed shape {shape[:20]!r}: no kind and length")
    return shape[0] == "t", int(shape[1:])


_ONE = re.compile(r"[tb](0|[1-9][0-9]{0,9})", re.ASCII)
_SHAPES = {text: Memo[int, str](form.format, CACHED_SHAPES) for text, form in ((True, "t{}"), (False, "b{}"))}
_PARSED = Memo(_parse, 2 * CACHED_SHAPES)


def shape_of(payload: Payload) -> str:
    """Return the shape of one payload."""
    text, data = payload
    return _SHAPES[text][len(data)]


def sizes_of(shape: str) -> list[int]:
    """Return the size in bytes of each payload of a batch.

    Raises:
        ValueError: the shape is malformed.
    """
    return [_PARSED[part][1] for part in shape.split("-")]


def join(payloads: Sequence[Payload]) -> tuple[str, bytes]:
    """Join payloads into one batch; return its shape and its bytes."""
    if len(payloads) == 1:
        return shape_of(payloads[0]), payloads[0][1]
    shape = "-".join([_SHAPES[text][len(data)] for text, data in payloads])
    return shape, b"".join([data for _, data in payloads])


def pack(payloads: Sequence[Payload]) -> list[tuple[str, bytes, list[int]]]:
    """Join payloads, in order, into as few batches as `BATCH_PAYLOADS` and `BATCH_BYTES` allow.

    Returns:
        Of each batch its shape, its bytes, and the size in bytes of each of its payloads.
    """
    if not payloads:
        return []
    sizes = [len(data) for _, data in payloads]
    batches = []
    start = total = 0
    if len(sizes) > BATCH_PAYLOADS or sum(sizes) > BATCH_BYTES:
        for at, size in enumerate(sizes):
            if at - start == BATCH_PAYLOADS or (at > start and total + size > BATCH_BYTES):
                batches.append((*join(payloads[start:at]), sizes[start:at]))
                start, total = at, 0
            total += size
    batches.append((*join(payloads[start:]), sizes[start:]))
    return batches


def split(shape: str, data: bytes) -> list[Payload]:
    """Split a batch into its payloads.

    Raises:
        ValueError: the shape is malformed, or its lengths do not add up to the length of `data`.
    """
    payloads = []
    at = 0
    for part in shape.split("-"):
        text, length = _PARSED[part]
        end = at + length
        payloads.append((text, data[at:end]))
        at = end
    if at != len(data):
        raise ValueError(f"shape {shape[:80]!r} adds up to {at} bytes, the message has {len(data)}")
    return payloads
