"""The peer of a match, and where it is."""

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import DevicePaired


class Peer:
    """The device at the other end of a match. Of two of its connections, the larger id is the newer."""

    def __init__(self, app: str, paired: DevicePaired) -> None:
        self.id = paired.peer
        self.disconnected = paired.peer_away
        self._revision = paired.peer_revision  # of what is known of it
        self._app = app
        self._match = paired.match
        self.move(paired.peer_edge, paired.peer_connection_id)

    def is_news(self, revision: int) -> bool:
        """Note what match-engine says of the peer at `revision` (0: unknown); False if that is outdated."""
        if 0 < revision < self._revision:
            return False
        self._revision = max(self._revision, revision)
        return True

    def move(self, edge: str, connection_id: int) -> None:
        """Record the peer's connection, and the edge (id) that holds it."""
        self.connection_id = connection_id
        self.edge = subjects.token(edge)
        self.ack_prefix = subjects.ack_prefix(self._app, edge, self.id, self._match)
