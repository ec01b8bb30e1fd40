"""Devices that are matched, rematched and die, in a network that loses, repeats, delays and reorders.

There are three devices on three edges. Those in a match send numbered payloads that name it; old messages
stay in the network for ever and may arrive at any time. No device ever gets a payload of a match other than
its own.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import (
    DevicePaired,
    DeviceUnpaired,
    DeviceWaiting,
)
from cloudmatch_edge.dialects.parameters import Parameters
from cloudmatch_edge.relay.device import Device
from cloudmatch_edge.relay.sender import PROBE_TIMEOUT
from unit.edge.fakes import (
    APP,
    FakeBus,
    FakeMatches,
    FakeMatchmaking,
    FakeSocket,
    classic,
    paired,
)

NAMES = "abc"


def paired_with(match: int, peer: str) -> DevicePaired:
    """The update about a match with a device on an edge of its own."""
    return paired(match, peer=peer, met=1, connection=1, peer_edge=f"edge-{peer}", peer_connection=1)


class NetworkBus(FakeBus):
    """An edge whose messages go into the network."""

    def __init__(self, world: "World", name: str) -> None:
        super().__init__(name)
        self._world = world

    def now(self) -> float:
        return self._world.now

    def publish(self, subject: str, payload: bytes, reply: str = "") -> bool:
        self._world.network.append((subject, payload, reply))
        return True


class World(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.number = 0
        self.network: list[tuple[str, bytes, str]] = []
        self.devices: dict[str, Device] = {}
        self.matches: dict[str, FakeMatches] = {}
        self.pair: tuple[str, str] | None = None
        self.sent: dict[tuple[int, str], int] = {}
        for name in NAMES:
            self.live(name)

    def live(self, name: str) -> None:
        """A fresh connection, on a fresh edge: nothing of the previous one is left."""
        bus, matches = NetworkBus(self, f"edge-{name}"), FakeMatches()
        self.matches[name] = matches
        self.devices[name] = Device(
            Parameters(name, 0, 0, APP), 1, FakeSocket(), classic(), bus, matches, FakeMatchmaking()
        )

    @rule(names=st.permutations(NAMES), updated=st.sampled_from(["both", "first", "second"]))
    def rematch(self, names: list[str], updated: str) -> None:
        """match-engine pairs two; the updates about the end, and to one of them, may be late or lost."""
        one, other, third = names
        self.number += 1
        self.pair = one, other
        if updated != "second":
            self.update(one)
        if updated != "first":
            self.update(other)
        self.devices[third].on_answer(DeviceWaiting(connection_id=1, since=self.number))

    @precondition(lambda self: self.pair)
    @rule(which=st.integers(0, 1))
    def update_late(self, which: int) -> None:
        assert self.pair is not None
        self.update(self.pair[which])

    def update(self, name: str) -> None:
        assert self.pair is not None
        one, other = self.pair
        peer = other if name == one else one
        self.devices[name].on_answer(paired_with(self.number, peer))

    @rule(name=st.sampled_from(NAMES), ago=st.integers(0, 3))
    def old_update(self, name: str, ago: int) -> None:
        self.devices[name].on_answer(
            DeviceUnpaired(connection_id=1, match=max(0, self.number - 1 - ago), reason="left")
        )

    @rule(name=st.sampled_from(NAMES))
    def die(self, name: str) -> None:
        """The connection and its edge are gone at once; the device is back, in no match."""
        self.live(name)
        self.number += 1
        for device in self.devices.values():
            device.on_answer(DeviceWaiting(connection_id=1, since=self.number))
        self.pair = None

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 5))
    def send(self, name: str, count: int) -> None:
        device = self.devices[name]
        if device.match is None or min(device.credit) <= 0:
            return
        key = device.match.number, name
        first = self.sent.get(key, 0)
        self.sent[key] = first + count
        device.on_frames([(True, f"{device.match.number}:{first + i}".encode()) for i in range(count)])

    @precondition(lambda self: self.network)
    @rule(data=st.data(), keep=st.booleans())
    def carry(self, data: st.DataObject, keep: bool) -> None:
        """Carry a message: batches to the peer's edge, acks to the sender's. Any, old ones too."""
        at = data.draw(st.integers(max(0, len(self.network) - 12), len(self.network) - 1))
        subject, payload, reply = self.network[at] if keep else self.network.pop(at)
        ack = subjects.parse_reply(subject)
        if ack is not None:
            matches = self.matches[ack.device]
            for match in matches.added:
                if match.prefix == ack.prefix and match not in matches.removed:
                    delivered, connection_id, _ = subjects.parse_ack(payload) or (0, 0, 0)
                    match.on_ack(ack.seq, delivered, connection_id)
            return
        address = subjects.parse_reply(reply)
        assert address is not None
        # The worst worker: it forwards the batches of any match to all devices.
        for name, device in self.devices.items():
            if name != address.device:
                device.on_batch(address, payload)

    @rule(seconds=st.sampled_from([0.0, PROBE_TIMEOUT, 1.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for device in self.devices.values():
            if device.match is not None:
                device.match.tick(self.now, 30.0)
                device.match.settle()

    @invariant()
    def no_device_gets_payloads_of_another_match(self) -> None:
        if not hasattr(self, "devices"):
            return
        for device in self.devices.values():
            number, expected = None, 0
            partners: list[str] = []
            for line in (data.decode() for _, data in device.socket.written):  # type: ignore[attr-defined]  # a fake
                if line.startswith("I matched with"):
                    partners.append(line.split("'")[1])
                    number, expected = None, 0
                    continue
                who, _, rest = line.removeprefix("device ").partition(" says: ")
                match, _, count = rest.partition(":")
                assert who == partners[-1]
                assert number in (None, match), "payloads of two matches under one partner"
                number = match
                assert int(count) == expected, "out of order, lost or twice"
                expected += 1


TestWorld = World.TestCase
TestWorld.settings = settings(
    max_examples=300, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
