"""Close codes of ``cloudmatch.v1``, and when a device reconnects after them.

Generated from the edge's table: ``python tests/contract/test_close_codes.py``.
"""

from typing import Literal

Reconnect = Literal["never", "at once", "with backoff", "with long backoff"]

NORMAL = 1000
GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
UNSUPPORTED_DATA = 1003
ABNORMAL = 1006
INVALID_DATA = 1007
POLICY_VIOLATION = 1008
TOO_LARGE = 1009
INTERNAL_ERROR = 1011
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013
REPLACED = 4001
TOKEN_EXPIRED = 4003
PING_TIMEOUT = 4008

# Any other code: with backoff.
RECONNECT: dict[int | None, Reconnect] = {
    NORMAL: "with backoff",
    GOING_AWAY: "at once",
    PROTOCOL_ERROR: "with backoff",
    UNSUPPORTED_DATA: "never",
    ABNORMAL: "with backoff",
    INVALID_DATA: "never",
    POLICY_VIOLATION: "with backoff",
    TOO_LARGE: "never",
    INTERNAL_ERROR: "with backoff",
    SERVICE_RESTART: "at once",
    TRY_AGAIN_LATER: "with long backoff",
    REPLACED: "never",
    TOKEN_EXPIRED: "never",
    PING_TIMEOUT: "with backoff",
}
