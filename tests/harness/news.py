"""What a device takes up of what match-engine says of it, in whatever order that comes."""

from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    DeviceGone,
    DevicePaired,
    DeviceReplaced,
    DeviceUnpaired,
    DeviceWaiting,
    PeerReturned,
)


class TakenUp:
    """Where a device stands, as far as it has heard. Numbers of matches order what it hears."""

    def __init__(self) -> None:
        self.match: int | None = None
        self.peer: str | None = None
        self.peer_at = (0, "")  # session and edge
        self.heard = (0, False)  # a device waits since the number of the match that it then makes
        self.replaced = self.gone = False

    def hear(self, answer: AnyAnswer) -> None:
        """Learn what match-engine says."""
        match answer:
            case DevicePaired() if (answer.match, True) > self.heard:
                self.match, self.peer, self.heard = answer.match, answer.peer, (answer.match, True)
                self.peer_at = answer.peer_connection_id, answer.peer_edge
            case DevicePaired() | PeerReturned() if answer.match == self.match:
                self.peer_at = max(self.peer_at, (answer.peer_connection_id, answer.peer_edge))
            case DeviceWaiting() if (answer.since, False) > self.heard:
                self.match, self.peer, self.heard = None, None, (answer.since, False)
            case DeviceUnpaired() if answer.match == self.match:
                self.match, self.peer = None, None
            case DeviceReplaced():
                self.replaced = True
            case DeviceGone():
                self.gone = True
            case _:
                pass
