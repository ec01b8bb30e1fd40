"""The session of a device, which outlives its connections.

Times are seconds of any clock that does not go back.
"""


class Session:
    """A token to resume with, which expires when the grace has passed without a connection."""

    def __init__(self) -> None:
        self.token = ""  # empty: there is no session
        # whether a connection is being made or open: then the server decides what has expired
        self.connecting = False
        self._grace = 0.0  # s
        self._expires: float | None = None

    def welcome(self, token: str, grace: float) -> None:
        """The server has welcomed the connection, with this token and grace (s)."""
        self.token, self._grace = token, grace
        self._expires = None

    def suspend(self, now: float) -> None:
        """Start the grace: the connection was lost."""
        self._expires = now + self._grace

    def close(self) -> None:
        """Let the session never expire: the device is closed."""
        self._expires = None

    @property
    def deadline(self) -> float | None:
        """When the session expires, unless a connection is made before."""
        return None if self.connecting else self._expires

    def expire(self, now: float) -> bool:
        """End the session if its grace has passed; return whether it has."""
        if self.deadline is None or now < self.deadline:
            return False
        self.token, self._expires = "", None
        return True
