"""When to connect again after a connection ended, or could not be made."""

AT_ONCE = 1.0  # s at most, so that not all devices of an edge come in one moment
SOON = (0.1, 5.0)  # s of the first pause, which doubles, and of the longest
OVERLOADED = (1.0, 30.0)

# close codes after which a device stops, and why
STOPPED = {
    1000: "the server closed the connection",
    1003: "the server does not take binary payloads: it does not speak cloudmatch.v1",
    1007: "the server found text that is not UTF-8",
    1009: "a payload was larger than the server allows",
    4001: "a newer connection has taken the id of this device",
    4003: "the token has expired or was revoked",
}
REFUSED = {400, 401, 403, 404}  # HTTP: trying again does not help


class Retry:
    """Pauses between attempts; longer while nothing succeeds."""

    def __init__(self) -> None:
        self._failures = 0

    def succeeded(self) -> None:
        """The server has let the device in."""
        self._failures = 0

    def pause(self, code: int | None, chance: float) -> float:
        """Give the seconds to wait after a close code, an HTTP status, or None for a broken connection.

        `chance` is a random number from 0 to 1.
        """
        if code in (1001, 1012) and not self._failures:
            self._failures = 1
            return AT_ONCE * chance
        first, longest = OVERLOADED if code in (503, 1013) else SOON
        pause = min(longest, first * 2.0**self._failures)
        self._failures = min(self._failures + 1, 16)
        return pause * (0.5 + chance / 2)
