"""Edges and the connections they hold: their view of devices, and requests repeated until answered."""

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
from harness.device_view import DeviceView

APP = "demo"


@dataclass(eq=False)
class PendingRequest:
    """A request that an edge repeats until it is answered."""

    connection: "Connection"
    request: Callable[[], AnyRequest]
    kind: str
    attempt: object = None  # the one in progress


@dataclass
class Edge:
    """A process; when it dies another takes its name, with a later incarnation."""

    name: str
    incarnation: int = 1
    up: bool = True
    frozen: bool = False
    connections: dict[tuple[str, int], "Connection"] = field(default_factory=dict)
    pending: list[PendingRequest] = field(default_factory=list)
    inbox: list[Callable[[], None]] = field(default_factory=list)  # what arrived while it was frozen

    def die(self) -> None:
        for connection in self.connections.values():
            connection.open = False
        self.up = self.frozen = False
        self.incarnation += 1
        self.connections, self.pending, self.inbox = {}, [], []

    def thaw(self) -> None:
        """Resume, and verify all devices."""
        self.frozen = False
        for connection in self.connections.values():
            connection.seek()

    def ask(self, connection: "Connection", kind: str, request: Callable[[], AnyRequest]) -> None:
        self.pending = [p for p in self.pending if (p.connection, p.kind) != (connection, kind)]
        self.pending.append(PendingRequest(connection, request, kind))

    def on_answer(self, device: str, answer: AnyAnswer) -> None:
        """Update a device; report a connection that this edge does not have as disconnected."""
        connection = self.connections.get((device, answer.connection_id))
        if connection is not None:
            connection.on_answer(answer)
        elif not isinstance(answer, DeviceReplaced | DeviceGone):
            unknown = Connection(device, self, answer.connection_id, lat=0, grace=0, token="")
            unknown.step_away()


class Connection(DeviceView):
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
        self.open = False

    def enter(self) -> None:
        """The socket was accepted."""
        self.open = True
        self.edge.connections[self.name, self.connection_id] = self
        self.seek()

    def seek(self) -> None:
        self.edge.ask(self, "seek", self._seek)

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

    def move(self, lat: float, version: int) -> None:
        self.lat, self.location_version = lat, version
        self.seek()

    def unmatch(self) -> None:
        request = LeaveMatch(
            app=APP,
            device=self.name,
            edge=self.edge.name,
            connection_id=self.connection_id,
            match=self.match or 0,
        )
        self.edge.ask(self, f"unmatch {self.match}", lambda: request)

    def leave(self, reason: str = "left") -> None:
        """The device leaves: earlier requests are no longer repeated, but may still be carried out."""
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
        """The socket has ended without a close from the device."""
        request = StepAway(app=APP, device=self.name, edge=self.edge.name, connection_id=self.connection_id)
        self._end(lambda: request)

    def _end(self, request: Callable[[], AnyRequest]) -> None:
        self.open = False
        self.edge.connections.pop((self.name, self.connection_id), None)
        self.edge.pending = [p for p in self.edge.pending if p.connection is not self]
        self.edge.ask(self, "end", request)
