"""Edges and the connections they hold: what they know, and what they ask until it is answered."""

from collections.abc import Callable
from dataclasses import dataclass, field

from cloudmatch_bus.contract.messages import (
    AnyAnswer,
    AnyRequest,
    DeviceGone,
    DeviceReplaced,
    LeaveMatch,
    LeavePool,
    SeekPartner,
    StepAway,
)
from harness.news import TakenUp

APP = "demo"


@dataclass(eq=False)
class Wish:
    """What an edge asks until it is answered."""

    connection: "Connection"
    request: Callable[[], AnyRequest]
    kind: str
    attempt: object = None  # the one under way


@dataclass
class Edge:
    """A process; when it dies another takes its name, with a later start."""

    name: str
    incarnation: int = 1
    up: bool = True
    frozen: bool = False
    connections: dict[tuple[str, int], "Connection"] = field(default_factory=dict)
    wishes: list[Wish] = field(default_factory=list)
    inbox: list[Callable[[], None]] = field(default_factory=list)  # what came while it was frozen

    def die(self) -> None:
        for connection in self.connections.values():
            connection.open = False
        self.up = self.frozen = False
        self.incarnation += 1
        self.connections, self.wishes, self.inbox = {}, [], []

    def thaw(self) -> None:
        """Go on, and doubt what it knew."""
        self.frozen = False
        for connection in self.connections.values():
            connection.seek()

    def want(self, connection: "Connection", kind: str, request: Callable[[], AnyRequest]) -> None:
        self.wishes = [w for w in self.wishes if (w.connection, w.kind) != (connection, kind)]
        self.wishes.append(Wish(connection, request, kind))

    def hear(self, device: str, answer: AnyAnswer) -> None:
        """News for a device; the edge speaks up for a connection that is not there."""
        connection = self.connections.get((device, answer.connection_id))
        if connection is not None:
            connection.hear(answer)
        elif not isinstance(answer, DeviceReplaced | DeviceGone):
            stranger = Connection(device, self, answer.connection_id, lat=0, grace=0, token="")
            stranger.step_away()


class Connection(TakenUp):
    """A device's connection, as its edge knows it."""

    def __init__(
        self,
        name: str,
        edge: Edge,
        connection_id: int,
        *,
        lat: float,
        grace: float,
        token: str,
        resume: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.edge, self.connection_id, self.lat = name, edge, connection_id, lat
        self.grace, self.token, self.resume = grace, token, resume
        self.location_version = 0
        self.open = False  # the socket stands

    def enter(self) -> None:
        """The socket was accepted."""
        self.open = True
        self.edge.connections[self.name, self.connection_id] = self
        self.seek()

    def seek(self) -> None:
        self.edge.want(self, "seek", self._seek)

    def _seek(self) -> SeekPartner:
        return SeekPartner(
            app=APP,
            device=self.name,
            edge=self.edge.name,
            connection_id=self.connection_id,
            lat=self.lat,
            lon=0,
            location_version=self.location_version,
            incarnation=self.edge.incarnation,
            grace=self.grace,
            token=self.token,
            resume=self.resume,
        )

    def move(self, lat: float, place: int) -> None:
        self.lat, self.location_version = lat, place
        self.seek()

    def unmatch(self) -> None:
        request = LeaveMatch(
            app=APP,
            device=self.name,
            edge=self.edge.name,
            connection_id=self.connection_id,
            match=self.match or 0,
        )
        self.edge.want(self, f"unmatch {self.match}", lambda: request)

    def leave(self, reason: str = "left") -> None:
        """The device leaves: what was asked before is not awaited any more, but may still be carried out."""
        request = LeavePool(
            app=APP,
            device=self.name,
            edge=self.edge.name,
            connection_id=self.connection_id,
            reason=reason,
            match=self.match,
            peer=self.peer,
        )
        self._end(lambda: request)

    def step_away(self) -> None:
        """The socket has ended, by no wish of the device."""
        request = StepAway(app=APP, device=self.name, edge=self.edge.name, connection_id=self.connection_id)
        self._end(lambda: request)

    def _end(self, request: Callable[[], AnyRequest]) -> None:
        self.open = False
        self.edge.connections.pop((self.name, self.connection_id), None)
        self.edge.wishes = [w for w in self.edge.wishes if w.connection is not self]
        self.edge.want(self, "end", request)
