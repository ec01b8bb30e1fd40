"""When to reconnect after a connection ended or could not be made."""

from cloudmatch.core.close_codes import RECONNECT, REPLACED

AT_ONCE = 1.0  # s at most, so that not all devices of an edge reconnect at the same moment
BACKOFF = (0.1, 5.0)  # s: the first pause, which doubles, and the longest
LONG_BACKOFF = (1.0, 30.0)
UNAVAILABLE = 503  # HTTP: the edge is full, or not ready
RETRY_AFTER_MAX = 120.0  # s that a server may ask for

# why a device stops, by those close codes after which it never reconnects
STOPPED = {
    1003: "the server does not accept binary payloads: it does not speak cloudmatch.v1",
    1007: "the server found text that is not UTF-8",
    1009: "a payload exceeded the server's size limit",
    4001: "a newer connection has taken over the id of this device",
    4003: "the token has expired or was revoked",
}
REFUSED = {400, 401, 403, 404}  # HTTP, with an error of the server's own: trying again does not help
TOKEN_EXPIRED = 4003
OWN_ATTEMPT = 60.0  # s for which an attempt of our own that was abandoned may still reach the server


class Retry:
    """Pauses between attempts to connect; longer while none succeeds."""

    def __init__(self, *, renews: bool = False) -> None:
        """`renews`: the device can get another token."""
        self._renews = renews
        self._failures = 0
        self._abandoned_at: float | None = None

    def abandoned(self, now: float) -> None:
        """Note that an attempt ended, and nobody knows whether the server has taken it."""
        self._abandoned_at = now

    def final(self, code: int | None, now: float) -> bool:
        """Return whether a close code ends the device for good. The newer connection that replaces it may be
        an attempt of our own, abandoned lately: then it tries once more."""
        if code == REPLACED and self._abandoned_at is not None and now < self._abandoned_at + OWN_ATTEMPT:
            self._abandoned_at = None
            return False
        return code in STOPPED and not (self._renews and code == TOKEN_EXPIRED)

    def succeeded(self) -> None:
        """Start again with the shortest pause."""
        self._failures = 0

    def pause(self, code: int | None, chance: float, retry_after: float = 0.0) -> float:
        """Return the seconds to wait after a close code, an HTTP status, or None for a broken connection.

        Args:
            chance: a random number from 0 to 1.
            retry_after: seconds for which the server asks to wait at least.
        """
        reconnect = RECONNECT.get(code, "with backoff")
        if (reconnect == "at once" or code == REPLACED) and not self._failures:
            self._failures = 1
            return AT_ONCE * chance
        long = reconnect == "with long backoff" or code == UNAVAILABLE
        first, longest = LONG_BACKOFF if long else BACKOFF
        pause = min(longest, first * 2.0**self._failures)
        self._failures = min(self._failures + 1, 16)
        return max(pause * (0.5 + chance / 2), retry_after * (1 + chance / 2))


def retry_after(header: str | None) -> float:
    """Return the seconds of a Retry-After header; 0 if there is none, or it is not a number."""
    if header is None or not (header.isascii() and header.isdigit()):
        return 0.0
    return min(float(header), RETRY_AFTER_MAX)
