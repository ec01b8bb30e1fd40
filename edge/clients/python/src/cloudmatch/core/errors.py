"""What can go wrong, as exceptions. All are `CloudMatchError`."""


class CloudMatchError(Exception):
    """Anything that goes wrong with a device."""


class UnreachableError(CloudMatchError):
    """No server has answered; `__cause__` is what the last attempt ended with."""


class RefusedError(CloudMatchError):
    """The server does not let this device in: a parameter or a token is wrong."""

    def __init__(self, status: int, code: str, detail: str, parameter: str | None = None) -> None:
        super().__init__(f"{parameter}: {detail}" if parameter else detail)
        self.status = status  # of HTTP
        self.code = code
        self.detail = detail
        self.parameter = parameter  # the one that is wrong


class ClosedError(CloudMatchError):
    """The device is closed and does not connect again."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code  # of the WebSocket's close
        self.reason = reason


class ReplacedError(ClosedError):
    """A newer connection has taken the device's id."""


class NotMatchedError(CloudMatchError):
    """There is no peer to send to."""


class PeerLeftError(CloudMatchError):
    """The match ended before the payload was delivered."""

    def __init__(self, peer: str, reason: str) -> None:
        super().__init__(f"the match with {peer!r} ended before the payload was delivered: {reason}")
        self.peer = peer
        self.reason = reason  # left, unmatched, expired, replaced or closed


class PayloadRefusedError(CloudMatchError):
    """The payload was not taken: it is too large, or there are too many."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code  # of the protocol: payload_too_large, rate_limited, …
        self.detail = detail


class ProtocolError(CloudMatchError):
    """The server said what no server says."""
