"""A device's state as its edge knows it from match-engine's answers, in whatever order they arrive."""

from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    DeviceGone,
    DevicePaired,
    DeviceReplaced,
    DeviceUnpaired,
    DeviceWaiting,
    PeerReturned,
)


class DeviceView:
    """The newest state of a device. The numbers of matches order the answers."""

    def __init__(self) -> None:
        self.match: int | None = None
        self.peer: str | None = None
        self.peer_at = (0, "")  # its connection id and edge
        # (revision, is matched): a device waiting since revision r is matched as match r
        self.version = (0, False)
        self.replaced = self.gone = False

    def on_answer(self, answer: AnyAnswer) -> None:
        """Update the state, unless the answer is older."""
        match answer:
            case DevicePaired() if (answer.match, True) > self.version:
                self.match, self.peer, self.version = answer.match, answer.peer, (answer.match, True)
                self.peer_at = answer.peer_connection_id, answer.peer_edge
            case DevicePaired() | PeerReturned() if answer.match == self.match:
                self.peer_at = max(self.peer_at, (answer.peer_connection_id, answer.peer_edge))
            case DeviceWaiting() if (answer.since, False) > self.version:
                self.match, self.peer, self.version = None, None, (answer.since, False)
            case DeviceUnpaired() if answer.match == self.match:
                self.match, self.peer = None, None
            case DeviceReplaced():
                self.replaced = True
            case DeviceGone():
                self.gone = True
            case _:
                pass
