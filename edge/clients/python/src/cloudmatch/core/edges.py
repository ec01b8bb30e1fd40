"""The edges that a device may connect to, in turn."""

from collections.abc import Sequence

from cloudmatch.core.close_codes import GOING_AWAY, SERVICE_RESTART


class Edges:
    """One or more edges, in order of preference; any of them can continue a match."""

    def __init__(self, urls: Sequence[str]) -> None:
        if not urls:
            raise ValueError("the URL of at least one server is required")
        self._urls = tuple(urls)
        self._at = 0
        self._failed = 0  # edges in a row that did not accept the device, or are going away
        self._open = False

    def __str__(self) -> str:
        return " or ".join(self._urls)

    @property
    def url(self) -> str:
        """The edge to connect to."""
        return self._urls[self._at]

    def opened(self) -> None:
        """Note that the edge has accepted the device."""
        self._open = True
        self._failed = 0

    def ended(self, code: int | None) -> bool:
        """Choose the edge to connect to after a close code, an HTTP status, or None for a broken connection;
        return whether to do so at once, because it has not failed yet.

        A connection that broke is restored at the same edge. An edge that goes away sends all its devices at
        once to others, so these do not hurry.
        """
        was_open, self._open = self._open, False
        if was_open and code not in (GOING_AWAY, SERVICE_RESTART):
            return False
        self._failed += 1
        self._at = (self._at + 1) % len(self._urls)
        return not was_open and self._failed % len(self._urls) > 0
