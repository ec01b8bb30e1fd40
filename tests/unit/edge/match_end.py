"""One end of a match, with its fakes."""

import json
from typing import Any

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import Position, decode_position
from cloudmatch_edge.dialects.base import Send
from cloudmatch_edge.relay.match import Match
from unit.edge.fakes import (
    CONNECTION,
    PEER_CONNECTION,
    PEER_EDGE,
    FakeBus,
    FakeMatches,
    FakeOwner,
    paired,
    texts,
)


class End:
    """One end of match 5, with its fakes."""

    def __init__(
        self,
        *,
        received: int | None = None,
        owner: FakeOwner | None = None,
        matches: FakeMatches | None = None,
        **answer: Any,
    ) -> None:
        self.bus, self.matches, self.owner = FakeBus(), matches or FakeMatches(), owner or FakeOwner()
        met = CONNECTION if received is None else 1
        self.match = Match(self.owner, paired(5, met=met, **answer), self.bus, self.matches, received)
        self.match.begin()

    def push(self, *words: str) -> None:
        self.match.push(Send(texts(*words)))

    def types(self) -> list[str]:
        """Return the types of the frames written since the last call."""
        return [json.loads(text)["type"] for text in self.owner.socket.pop_texts()]

    def positions(self) -> list[Position]:
        """Return the positions published since the last call."""
        published = self.bus.pop_published()
        return [decode_position(p) for subject, p, _ in published if subject.endswith(subjects.POSITION)]

    def acks(self) -> list[str]:
        """Return the subjects of the acks published since the last call, without their prefix."""
        published = self.bus.pop_published()
        return [subject for subject, _, _ in published if subject.endswith(f".{subjects.ACK}")]


def position(**fields: Any) -> Position:
    """A position of the peer's edge."""
    given: dict[str, Any] = {"edge": PEER_EDGE, "connection_id": PEER_CONNECTION, "next": 0, "delivered": 0}
    return Position(**(given | fields))
