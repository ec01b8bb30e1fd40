"""Every close code that an edge sends or records, and what a client of `cloudmatch.v1` does next."""

from typing import Literal, NamedTuple

# At once: after a random part of a second. Backoff doubles from 0.1 s to 5 s, long backoff from 1 s to 30 s.
Reconnect = Literal["never", "at once", "with backoff", "with long backoff"]


class CloseCode(NamedTuple):
    """A close code: RFC 6455's and IANA's below 4000, our own from there on."""

    code: int
    name: str
    meaning: str
    reconnect: Reconnect


NORMAL = CloseCode(
    1000, "normal", "The device asked to leave, and is done. Otherwise a proxy has closed.", "with backoff"
)
GOING_AWAY = CloseCode(1001, "going away", "The edge is shutting down (classic devices).", "at once")
PROTOCOL_ERROR = CloseCode(1002, "protocol error", "A frame violated RFC 6455.", "with backoff")
UNSUPPORTED_DATA = CloseCode(
    1003, "unsupported data", "A classic device sent binary: that dialect is text only.", "never"
)
ABNORMAL = CloseCode(
    1006, "abnormal", "The connection broke without a close frame; recorded, never sent.", "with backoff"
)
INVALID_DATA = CloseCode(1007, "invalid data", "A text frame was not UTF-8.", "never")
POLICY_VIOLATION = CloseCode(
    1008,
    "policy violation",
    "Too many control frames or useless messages, or a message in too many fragments or that took too long.",
    "with backoff",
)
TOO_LARGE = CloseCode(1009, "too large", "A payload or frame exceeded the size limit.", "never")
INTERNAL_ERROR = CloseCode(1011, "internal error", "The edge failed.", "with backoff")
SERVICE_RESTART = CloseCode(
    1012, "service restart", "The edge is shutting down (`cloudmatch.v1`).", "at once"
)
TRY_AGAIN_LATER = CloseCode(
    1013,
    "try again later",
    "The peer made no progress for too long, or the device took nothing of what waits for it.",
    "with long backoff",
)
REPLACED = CloseCode(4001, "replaced", "A newer connection has the id of this device.", "never")
TOKEN_EXPIRED = CloseCode(
    4003, "token expired", "The token has expired: connect with another one, and resume.", "never"
)
PING_TIMEOUT = CloseCode(4008, "ping timeout", "The device answered none of four pings.", "with backoff")

CLOSE_CODES = (
    NORMAL,
    GOING_AWAY,
    PROTOCOL_ERROR,
    UNSUPPORTED_DATA,
    ABNORMAL,
    INVALID_DATA,
    POLICY_VIOLATION,
    TOO_LARGE,
    INTERNAL_ERROR,
    SERVICE_RESTART,
    TRY_AGAIN_LATER,
    REPLACED,
    TOKEN_EXPIRED,
    PING_TIMEOUT,
)
