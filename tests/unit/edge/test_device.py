"""Devices that are matched, rematched and die, under a network that loses, repeats, delays and reorders.

Three devices on three edges. Whoever is in a match sends numbered payloads that name it; old messages stay in
the network for ever and may come at any time. Nobody ever hears a payload of a match other than its own.
"""

from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import DevicePaired, DeviceUnpaired, DeviceWaiting
from cloudmatch_bus.contract.payloads import Payload
from cloudmatch_edge.dialects.classic import Classic
from cloudmatch_edge.dialects.parameters import Parameters
from cloudmatch_edge.relay.device import Device
from cloudmatch_edge.relay.match import Match
from cloudmatch_edge.relay.sender import PROBE_TIMEOUT

NAMES = "abc"


def paired(match: int, peer: str) -> DevicePaired:
    """The news of a match with a device on an edge of its own."""
    return DevicePaired(
        connection_id=1,
        match=match,
        peer=peer,
        distance=0,
        matched_connection_id=1,
        peer_edge=f"edge-{peer}",
        peer_connection_id=1,
    )


class Wire:
    """An edge with one device: what it publishes goes into the network."""

    def __init__(self, world: "World", name: str) -> None:
        self.name = f"edge-{name}"
        self.facts: list[Any] = []
        self.matches: dict[str, Match] = {}
        self._world = world
        self.doubts = 0

    def now(self) -> float:
        return self._world.now

    def clock(self) -> int:
        return 0

    def publish(self, subject: str, payload: bytes, reply: str = "") -> bool:
        self._world.network.append((subject, payload, reply))
        return True

    def fact(self, fact: Any) -> None:
        self.facts.append(fact)

    def began(self, match: Match) -> None:
        self.matches[match.prefix] = match

    def ended(self, match: Match) -> None:
        self.matches.pop(match.prefix, None)

    def busy(self, match: Match) -> None: ...

    def linger(self, match: Match) -> None: ...

    def renew(self, device: Device) -> None: ...

    def seek(self, device: Device) -> None: ...

    def part(self, device: Device, match: Match) -> None: ...

    def forget(self, device: Device) -> None: ...

    def soon(self, match: Match) -> None: ...

    def doubt(self, device: Device) -> None:
        self.doubts += 1


class Ear:
    """A device's socket: what it hears."""

    reading = True

    def __init__(self) -> None:
        self.heard: list[str] = []

    def send(self, frames: Sequence[Payload]) -> None:
        self.heard.extend(data.decode() for _, data in frames)

    def go_on(self) -> None: ...

    def end(self, code: int, reason: str) -> None: ...


class World(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.number = 0
        self.network: list[tuple[str, bytes, str]] = []
        self.devices: dict[str, Device] = {}
        self.pair: tuple[str, str] | None = None
        self.sent: dict[tuple[int, str], int] = {}
        for name in NAMES:
            self.live(name)

    def live(self, name: str) -> None:
        """A fresh connection, on a fresh edge: nothing of the former is left."""
        self.devices[name] = Device(Parameters(name, 0, 0, "app"), 1, Ear(), Wire(self, name), Classic("e"))

    @rule(names=st.permutations(NAMES), told=st.sampled_from(["both", "first", "second"]))
    def rematch(self, names: list[str], told: str) -> None:
        """match-engine pairs two; the news of the end, and the news to one of them, may be late or lost."""
        one, other, third = names
        self.number += 1
        self.pair = one, other
        if told != "second":
            self.tell(one)
        if told != "first":
            self.tell(other)
        self.devices[third].hear_answer(DeviceWaiting(connection_id=1, since=self.number))

    @precondition(lambda self: self.pair)
    @rule(which=st.integers(0, 1))
    def tell_late(self, which: int) -> None:
        assert self.pair is not None
        self.tell(self.pair[which])

    def tell(self, name: str) -> None:
        assert self.pair is not None
        one, other = self.pair
        peer = other if name == one else one
        self.devices[name].hear_answer(paired(self.number, peer))

    @rule(name=st.sampled_from(NAMES), ago=st.integers(0, 3))
    def old_news(self, name: str, ago: int) -> None:
        self.devices[name].hear_answer(
            DeviceUnpaired(connection_id=1, match=max(0, self.number - 1 - ago), reason="left")
        )

    @rule(name=st.sampled_from(NAMES))
    def die(self, name: str) -> None:
        """The connection and its edge are gone at once; the device is back, in no match."""
        self.live(name)
        self.number += 1
        for device in self.devices.values():
            device.hear_answer(DeviceWaiting(connection_id=1, since=self.number))
        self.pair = None

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 5))
    def send(self, name: str, count: int) -> None:
        device = self.devices[name]
        if device.match is None or min(device.room) <= 0:
            return
        key = device.match.number, name
        first = self.sent.get(key, 0)
        self.sent[key] = first + count
        device.take([(True, f"{device.match.number}:{first + i}".encode()) for i in range(count)])

    @precondition(lambda self: self.network)
    @rule(data=st.data(), keep=st.booleans())
    def carry(self, data: st.DataObject, keep: bool) -> None:
        """Carry a message: frames to the peer's edge, acks to the sender's. Any, old ones too."""
        at = data.draw(st.integers(max(0, len(self.network) - 12), len(self.network) - 1))
        subject, payload, reply = self.network[at] if keep else self.network.pop(at)
        ack = subjects.parse_reply(subject)
        if ack is not None:
            match = self.devices[ack.device].wire.matches.get(ack.prefix)  # type: ignore[attr-defined]  # it is ours
            if match is not None:
                taken, connection_id, _ = subjects.parse_ack(payload) or (0, 0, 0)
                match.acked(ack.seq, taken, connection_id)
            return
        address = subjects.parse_reply(reply)
        assert address is not None
        # The worst router: it sends the frames of any match to whom the sender is paired with now, or to all.
        for name, device in self.devices.items():
            if name != address.device:
                device.hear_frames(address, payload)

    @rule(seconds=st.sampled_from([0.0, PROBE_TIMEOUT, 1.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for device in self.devices.values():
            if device.match is not None:
                device.match.tick(self.now, 30.0)
                device.match.settle()

    @invariant()
    def nobody_hears_what_was_not_meant_for_its_present_match(self) -> None:
        if not hasattr(self, "devices"):
            return
        for device in self.devices.values():
            number, expected = None, 0
            partners: list[str] = []
            for line in device.socket.heard:  # type: ignore[attr-defined]  # it is ours
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


def lone() -> Device:
    """A device outside of any network."""
    world = World()
    world.begin()
    return world.devices["a"]


def frame_of(match: int, seq: int, text: str) -> tuple[subjects.ReplyAddress, bytes]:
    address = subjects.parse_reply(f"{subjects.ack_prefix('app', 'edge-b', 'b', match)}{seq}.t{len(text)}")
    assert address is not None
    return address, text.encode()


def test_frames_of_a_former_match_are_dropped() -> None:
    device = lone()
    device.hear_answer(paired(5, "b"))
    device.hear_frames(*frame_of(4, 0, "old"))
    device.hear_frames(*frame_of(5, 0, "new"))
    assert device.socket.heard == ["I matched with device 'b'!", "device b says: new"]  # type: ignore[attr-defined]  # ours


def test_frames_that_come_before_the_news_of_their_match_wait_for_it() -> None:
    device = lone()
    device.hear_frames(*frame_of(6, 1, "second"))
    device.hear_frames(*frame_of(6, 0, "first"))
    assert device.puzzled
    assert device.wire.doubts == 2  # type: ignore[attr-defined]  # ours
    device.hear_answer(paired(6, "b"))
    assert device.socket.heard == [  # type: ignore[attr-defined]  # ours
        "I matched with device 'b'!",
        "device b says: first",
        "device b says: second",
    ]
    assert not device.puzzled


def test_a_match_may_have_the_number_since_which_the_device_waits() -> None:
    device = lone()
    device.hear_answer(DeviceWaiting(connection_id=1, since=5))
    device.hear_answer(paired(5, "b"))
    assert device.match is not None
    device.hear_answer(DeviceWaiting(connection_id=1, since=5))
    assert device.match is not None
    device.hear_answer(DeviceUnpaired(connection_id=1, match=5, reason="left"))
    device.hear_answer(paired(5, "b"))
    assert device.match is None


def test_frames_that_waited_for_another_match_than_came_are_dropped() -> None:
    device = lone()
    device.hear_frames(*frame_of(6, 0, "six"))
    device.hear_answer(paired(7, "c"))
    assert device.socket.heard == ["I matched with device 'c'!"]  # type: ignore[attr-defined]  # ours
    assert not device.puzzled


def test_sizes_are_told_once_for_each_payload_that_the_peer_has() -> None:
    device = lone()
    device.hear_answer(paired(5, "b"))
    device.take([(True, b"ciao"), (True, b"x")])
    assert device.match is not None
    for _ in range(3):
        device.match.acked(2, 1, 1)
        device.match.settle()
    assert [fact.sizes for fact in device.wire.facts] == [[4]]  # type: ignore[attr-defined]  # ours


def test_what_a_full_socket_was_given_is_not_taken_until_it_has_drained() -> None:
    device = lone()
    device.hear_answer(paired(5, "b"))
    network = device.wire._world.network  # type: ignore[attr-defined]  # ours
    device.clog()
    device.hear_frames(*frame_of(5, 0, "ciao"))
    assert device.match is not None
    device.match.settle()
    device.unclog()
    assert [payload.split()[0] for _, payload, _ in network] == [b"0", b"1"]
