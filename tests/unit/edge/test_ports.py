"""What implements the ports of the relay, and the fakes in these tests, have all of their members."""

import inspect
import re
from typing import Any

import pytest

from cloudmatch_edge.bus.active_matches import ActiveMatches
from cloudmatch_edge.bus.hub import EdgeBus, Hub
from cloudmatch_edge.relay import ports
from cloudmatch_edge.relay.device import Device, NoSocket
from cloudmatch_edge.sockets.connection import Connection
from unit.edge.fakes import FakeBus, FakeMatches, FakeMatchmaking, FakeOwner, FakeSocket

IMPLEMENTATIONS = [
    (ports.BusPort, EdgeBus),
    (ports.BusPort, FakeBus),
    (ports.MatchRegistry, ActiveMatches),
    (ports.MatchRegistry, FakeMatches),
    (ports.Matchmaking, Hub),
    (ports.Matchmaking, FakeMatchmaking),
    (ports.Socket, Connection),
    (ports.Socket, NoSocket),
    (ports.Socket, FakeSocket),
    (ports.MatchOwner, Device),
    (ports.MatchOwner, FakeOwner),
]


def members(port: type[Any]) -> set[str]:
    """Names of the members of a port."""
    return {name for name in {*vars(port), *vars(port).get("__annotations__", {})} if name[0] != "_"}


@pytest.mark.parametrize(("port", "implementation"), IMPLEMENTATIONS, ids=lambda each: each.__name__)
def test_an_implementation_has_every_member_of_its_port(port: Any, implementation: Any) -> None:
    has = {*dir(implementation), *re.findall(r"self\.(\w+)\b", inspect.getsource(implementation))}
    assert members(port)
    assert members(port) <= has
