"""The exceptions of the client; all are `CloudMatchError`."""


class CloudMatchError(Exception):
    """Any failure of a device."""


class UnreachableError(CloudMatchError):
    """No server accepted the device within the timeout: none answered, or all are full. `__cause__` is the
    failure of the last attempt; a `RefusedError` with the status 503 if that server was full or
    not ready, 429 if it gives no more to this address, app or id."""


class RefusedError(CloudMatchError):
    """The server does not admit this device: a parameter or the token is wrong. Only as a cause: it admits no
    device at present."""

    def __init__(
        self, status: int, code: str, detail: str, parameter: str | None = None, reason: str | None = None
    ) -> None:
        super().__init__(f"{parameter}: {detail}" if parameter else detail)
        self.status = status  # HTTP
        self.code = code
        self.detail = detail
        self.parameter = parameter  # the wrong one
        self.reason = reason  # what is wrong with the token: expired, revoked, signature, …


class TokenError(CloudMatchError):
    """The function that returns the device's token has failed; its error is the cause."""


class ClosedError(CloudMatchError):
    """The device is closed and does not reconnect."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code  # WebSocket close code
        self.reason = reason


class ReplacedError(ClosedError):
    """A newer connection has taken over the device's id."""


class NotMatchedError(CloudMatchError):
    """There is no peer to send to."""


class PeerLeftError(CloudMatchError):
    """The match ended before the payload was delivered."""

    def __init__(self, peer: str, reason: str) -> None:
        super().__init__(f"the match with {peer!r} ended before the payload was delivered: {reason}")
        self.peer = peer
        self.reason = reason  # left, unmatched, expired, replaced or closed


class PayloadRefusedError(CloudMatchError):
    """The payload was refused: it is too large, or there are too many."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code  # payload_too_large, rate_limited, …
        self.detail = detail


class ProtocolError(CloudMatchError):
    """The server sent an invalid frame."""
