"""Devices: commands, updates and batches, alone and in a network that loses, repeats, delays and reorders.

In the network there are three devices on three edges. Those in a match send numbered payloads that name it;
old messages stay in the network for ever and may arrive at any time. No device ever gets a payload of a match
other than its own.
"""

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import (
    DeviceGone,
    DevicePaired,
    DeviceReplaced,
    DeviceUnpaired,
    DeviceWaiting,
    PeerAway,
    PeerReturned,
)
from cloudmatch_edge.dialects.base import Dialect
from cloudmatch_edge.dialects.close_codes import NORMAL, REPLACED, UNSUPPORTED_DATA
from cloudmatch_edge.dialects.parameters import Parameters
from cloudmatch_edge.relay.device import UNLIMITED, Device, NoSocket
from cloudmatch_edge.relay.inbound import MalformedBatchError, messages_dropped
from cloudmatch_edge.relay.outbound import payloads_undelivered
from cloudmatch_edge.relay.rate_limit import BURST
from cloudmatch_edge.relay.sender import PROBE_TIMEOUT, WINDOW_BYTES, WINDOW_PAYLOADS
from unit.edge.fakes import (
    APP,
    CONNECTION,
    DEVICE,
    PEER_CONNECTION,
    FakeBus,
    FakeMatches,
    FakeMatchmaking,
    FakeSocket,
    batch,
    classic,
    paired,
    texts,
    v1,
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


class Lone:
    """A device outside of any network, with fakes for ports."""

    def __init__(self, dialect: Dialect | None = None, **parameters: Any) -> None:
        self.bus, self.matches, self.engine = FakeBus(), FakeMatches(), FakeMatchmaking()
        self.socket = FakeSocket()
        self.device = Device(
            Parameters(DEVICE, 0, 0, APP, **parameters),
            CONNECTION,
            self.socket,
            dialect or classic(),
            self.bus,
            self.matches,
            self.engine,
        )

    def command(self, text: str) -> None:
        """Have the device send a text frame."""
        self.device.on_frames([(True, text.encode())])

    def types(self) -> list[str]:
        """Return the types of the frames of cloudmatch.v1 written since the last call."""
        return [text.split('"')[3] for text in self.socket.pop_texts()]


def count(metric: Any, reason: str) -> float:
    return float(metric.labels(reason)._value.get())


# -- batches


def test_batches_of_an_earlier_match_are_dropped() -> None:
    lone, before = Lone(), count(messages_dropped, "stale_match")
    lone.device.on_answer(paired(5))
    lone.device.on_batch(*batch(0, texts("old"), match=4))
    lone.device.on_batch(*batch(0, texts("new"), match=5))
    assert lone.socket.pop_texts() == ["I matched with device 'b'!", "device b says: new"]
    assert count(messages_dropped, "stale_match") == before + 1


def test_batches_that_come_before_the_update_about_their_match_wait_for_it() -> None:
    lone = Lone()
    lone.device.on_batch(*batch(1, texts("second"), match=6))
    lone.device.on_batch(*batch(0, texts("first"), match=6))
    assert lone.device.needs_resync
    assert lone.engine.calls == ["verify", "verify"]
    lone.device.on_answer(paired(6))
    assert lone.socket.pop_texts() == [
        "I matched with device 'b'!",
        "device b says: first",
        "device b says: second",
    ]
    assert not lone.device.needs_resync


def test_no_more_than_a_window_of_early_batches_waits() -> None:
    lone = Lone()
    for number in range(WINDOW_PAYLOADS + 1):
        lone.device.on_batch(*batch(number, texts(str(number)), match=6))
    assert lone.engine.calls == ["verify"] * WINDOW_PAYLOADS
    lone.device.on_answer(paired(6))
    assert len(lone.socket.pop_texts()) == 1 + WINDOW_PAYLOADS


def test_batches_that_waited_for_another_match_are_dropped() -> None:
    lone = Lone()
    lone.device.on_batch(*batch(0, texts("six"), match=6))
    lone.device.on_answer(paired(7, peer="c"))
    assert lone.socket.pop_texts() == ["I matched with device 'c'!"]
    assert not lone.device.needs_resync


def test_a_malformed_batch_is_reported_unless_it_was_early() -> None:
    lone, before = Lone(), count(messages_dropped, "malformed")
    address, payload = batch(0, texts("ciao"))
    lone.device.on_batch(address, payload[1:])
    lone.device.on_batch(address, payload)
    lone.device.on_answer(paired(5))
    assert lone.socket.pop_texts()[1:] == ["device b says: ciao"]
    with pytest.raises(MalformedBatchError):
        lone.device.on_batch(address, payload[1:])
    assert count(messages_dropped, "malformed") == before + 2


# -- updates


def test_a_match_that_was_announced_is_not_verified() -> None:
    lone = Lone()
    lone.device.on_answer(paired(5))
    lone.device.on_unannounced_match(5)
    assert lone.engine.calls == []
    lone.device.on_unannounced_match(6)
    assert lone.engine.calls == ["verify"]


def test_a_match_may_have_the_number_since_which_the_device_waits() -> None:
    lone = Lone()
    lone.device.on_answer(DeviceWaiting(connection_id=CONNECTION, since=5))
    lone.device.on_answer(paired(5))
    assert lone.device.match is not None
    lone.device.on_answer(DeviceWaiting(connection_id=CONNECTION, since=5))
    assert lone.device.match is not None
    lone.device.on_answer(DeviceUnpaired(connection_id=CONNECTION, match=5, reason="left"))
    lone.device.on_answer(paired(5))
    assert lone.device.match is None


def test_an_update_about_another_match_changes_nothing() -> None:
    lone = Lone(v1())
    away = PeerAway(connection_id=CONNECTION, match=4, peer_connection_id=PEER_CONNECTION)
    lone.device.on_answer(away)
    lone.device.on_answer(paired(5))
    lone.types()
    lone.device.on_answer(away)
    lone.device.on_answer(paired(4))
    assert lone.types() == []


def test_the_device_learns_that_its_peer_is_away_and_back_and_has_left() -> None:
    lone = Lone(v1())
    lone.device.on_answer(paired(5))
    lone.types()
    lone.device.on_answer(PeerAway(connection_id=CONNECTION, match=5, peer_connection_id=PEER_CONNECTION))
    lone.device.on_answer(
        PeerReturned(connection_id=CONNECTION, match=5, peer_edge="edge-c", peer_connection_id=30)
    )
    lone.device.on_answer(paired(5, peer_connection=31, peer_away=True))
    lone.device.on_answer(DeviceUnpaired(connection_id=CONNECTION, match=5, reason="left"))
    assert lone.types() == ["peer_away", "peer_back", "peer_away", "peer_left"]
    assert lone.socket.resumed == 1


def test_a_connection_resumes_after_what_the_device_has_received() -> None:
    lone = Lone(v1(), received=7, match=5)
    lone.device.on_answer(paired(5, met=1, peer_away=True))
    assert lone.types() == ["peer_away"]
    assert lone.device.match is not None
    assert lone.device.match.inbound.receiver.next == 7
    assert lone.device.credit == UNLIMITED


def test_of_an_unknown_match_the_device_has_received_nothing() -> None:
    lone = Lone(v1(), received=7, match=4)
    lone.device.on_answer(paired(5, met=1))
    assert lone.types() == []
    assert lone.device.match is not None
    assert lone.device.match.inbound.receiver.next == 0


def test_a_device_that_match_engine_has_dropped_rejoins_unless_it_is_leaving_or_disconnected() -> None:
    lone, leaving, away = Lone(v1()), Lone(v1()), Lone(v1())
    leaving.command('{"type":"leave"}')
    away.device.disconnect()
    for each in (lone, leaving, away):
        each.device.on_answer(paired(5))
        each.device.on_answer(DeviceGone(connection_id=CONNECTION))
    assert (lone.engine.calls, leaving.engine.calls, away.engine.calls) == (["rejoin"], [], ["forget"])
    assert lone.device.match is None
    assert leaving.device.match is not None


def test_a_superseded_connection_is_closed_once_and_hands_its_match_over() -> None:
    lone = Lone(v1())
    lone.device.on_answer(paired(5))
    for _ in range(2):
        lone.device.on_answer(DeviceReplaced(connection_id=CONNECTION, by=11, edge="edge-c"))
    assert lone.socket.closed == REPLACED
    assert lone.device.match in lone.matches.lingering
    assert lone.engine.calls == []


def test_a_disconnected_device_that_is_superseded_is_forgotten() -> None:
    lone = Lone(v1())
    lone.device.disconnect()
    lone.device.on_answer(DeviceReplaced(connection_id=CONNECTION))
    assert lone.socket.closed is None
    assert lone.engine.calls == ["forget"]


def test_after_a_reset_smaller_revisions_count_again() -> None:
    lone = Lone()
    lone.device.on_answer(paired(900))
    lone.device.on_batch(*batch(0, texts("early"), match=901))
    lone.device.reset()
    assert lone.device.never_synced
    lone.device.on_answer(paired(5))
    assert lone.device.match is not None
    assert not lone.device.never_synced
    assert not lone.device.needs_resync


# -- commands


def test_payloads_without_a_match_are_undeliverable() -> None:
    lone, before = Lone(v1()), count(payloads_undelivered, "no_match")
    lone.command('{"type":"message","text":"ciao"}')
    assert lone.types() == ["error"]
    assert count(payloads_undelivered, "no_match") == before + 1


def test_payloads_of_a_match_that_the_device_has_not_acknowledged_are_undeliverable() -> None:
    lone = Lone(v1())
    lone.device.on_answer(paired(5))
    lone.command('{"type":"ack","received":0,"match":5}')
    lone.device.on_answer(paired(6))
    lone.types()
    lone.command('{"type":"message","text":"for match 5"}')
    lone.command('{"type":"unmatch"}')
    assert lone.types() == ["error"]
    assert lone.engine.calls == []
    lone.command('{"type":"ack","received":0,"match":5}')
    lone.command('{"type":"ack","received":0,"match":6}')
    lone.command('{"type":"message","text":"for match 6"}')
    assert lone.types() == []
    assert lone.device.credit == (WINDOW_PAYLOADS - 1, WINDOW_BYTES - 11)


def test_an_ack_that_names_no_match_is_for_the_present_one() -> None:
    lone = Lone(v1())
    lone.command('{"type":"ack","received":1}')
    lone.device.on_answer(paired(5))
    lone.device.on_batch(*batch(0, texts("one")))
    lone.command('{"type":"ack","received":1}')
    assert lone.device.match is not None
    assert lone.device.match.inbound.receiver.delivered == 1
    assert not lone.device.names_match


def test_a_match_is_ended_once_and_takes_no_payloads_then() -> None:
    lone = Lone(v1())
    lone.command('{"type":"unmatch"}')
    lone.device.on_answer(paired(5))
    lone.types()
    lone.command('{"type":"unmatch"}')
    lone.command('{"type":"unmatch"}')
    lone.command('{"type":"message","text":"ciao"}')
    lone.device.on_answer(DeviceUnpaired(connection_id=CONNECTION, match=5, reason="unmatched"))
    assert lone.engine.calls == ["leave_match 5"]
    assert lone.types() == ["error"]


def test_a_device_that_moves_is_reported_but_not_too_often() -> None:
    lone = Lone(v1())
    for _ in range(int(BURST) + 1):
        lone.command('{"type":"locate","lat":1,"lon":2}')
    assert (lone.device.who.lat, lone.device.who.lon, lone.device.location_version) == (1, 2, BURST)
    assert lone.engine.calls == ["seek"] * int(BURST)
    assert lone.types() == ["error"]


def test_a_device_that_leaves_is_closed() -> None:
    lone = Lone(v1())
    lone.command('{"type":"leave"}')
    assert lone.device.leaving
    assert lone.socket.closed == NORMAL


def test_a_ping_is_answered() -> None:
    lone = Lone(v1())
    lone.command('{"type":"ping"}')
    assert lone.types() == ["pong"]


def test_a_device_that_violates_its_dialect_is_closed_after_the_payloads_before() -> None:
    lone = Lone()
    lone.device.on_answer(paired(5))
    lone.device.on_frames([(True, b"fine"), (False, b"binary")])
    lone.device.on_frames([(False, b"binary")])
    assert lone.socket.closed == UNSUPPORTED_DATA
    assert [payload for _, payload, _ in lone.bus.pop_published()] == [b"fine"]


def test_a_match_that_ends_while_the_device_leaves_is_not_announced_again() -> None:
    lone = Lone()
    lone.device.end_match("left")
    assert lone.socket.pop_texts() == []


# -- the socket


def test_acks_are_readable_once_the_device_sent_one_and_while_its_socket_is_read() -> None:
    lone = Lone(v1())
    assert not lone.device.acks_readable
    lone.command('{"type":"ack","received":0}')
    assert lone.device.acks_readable
    lone.socket.reading = False
    assert not lone.device.acks_readable


def test_what_a_full_socket_was_given_is_not_delivered_until_it_has_drained() -> None:
    lone = Lone()
    lone.device.pause_writing()
    lone.device.resume_writing()
    lone.device.on_answer(paired(5))
    lone.device.pause_writing()
    lone.device.on_batch(*batch(0, texts("ciao")))
    assert lone.device.match is not None
    lone.device.match.settle()
    lone.device.resume_writing()
    assert [payload.split()[0] for _, payload, _ in lone.bus.pop_published()] == [b"0", b"1"]


def test_a_disconnected_device_writes_nowhere() -> None:
    lone = Lone(v1())
    lone.device.on_answer(paired(5))
    lone.device.disconnect()
    lone.types()
    lone.device.on_answer(DeviceUnpaired(connection_id=CONNECTION, match=5, reason="left"))
    lone.device.socket.close(NORMAL, "")
    assert isinstance(lone.device.socket, NoSocket)
    assert lone.types() == []


def test_sizes_are_reported_once_for_each_payload_that_the_peer_has() -> None:
    lone = Lone()
    lone.device.on_answer(paired(5))
    lone.device.on_frames([(True, b"ciao"), (True, b"x")])
    assert lone.device.match is not None
    for _ in range(3):
        lone.device.match.on_ack(2, 1, PEER_CONNECTION)
        lone.device.match.settle()
    assert [fact.sizes for fact in lone.bus.facts] == [[4]]
