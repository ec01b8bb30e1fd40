"""Every payload arrives once, in order, and is counted once, whatever drops, dies or is lost."""

from collections.abc import Iterator

import pytest

from cloudmatch_bus.contract.liveness import EDGE_DEAD_AFTER
from cloudmatch_bus.process import clock
from cloudmatch_match_engine.dropped import dropped
from simulation.payload_world import PayloadWorld
from simulation.virtual_time import VirtualLoop


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualLoop]:
    """A loop in virtual time, which is also what services take for the time of day."""
    virtual = VirtualLoop()
    monkeypatch.setattr(clock, "time", virtual)
    yield virtual
    virtual.close()


@pytest.mark.worlds(40)
def test_devices_that_drop_and_return_lose_nothing_and_sizes_are_counted_once(
    loop: VirtualLoop, seed: int
) -> None:
    world = PayloadWorld(seed, kills=False)
    loop.run_until_complete(world.run())
    world.check()


@pytest.mark.worlds(40)
def test_devices_whose_edges_and_workers_are_killed_lose_nothing(loop: VirtualLoop, seed: int) -> None:
    world = PayloadWorld(seed, kills=True)
    loop.run_until_complete(world.run(breaks=0.4))
    world.check()


@pytest.mark.worlds(150)
def test_payloads_arrive_once_and_in_order_wherever_connections_break(loop: VirtualLoop, seed: int) -> None:
    world = PayloadWorld(seed, kills=seed % 2 == 1, devices="ab", bursts=(1, 1, 2, 5, 20))
    loop.run_until_complete(world.run(pause=0.03, breaks=0.4))
    world.check()


@pytest.mark.worlds(60)
def test_sizes_are_counted_to_the_byte_although_edges_are_killed_and_cut_off(
    loop: VirtualLoop, seed: int
) -> None:
    world = PayloadWorld(seed, kills=True)
    loop.run_until_complete(world.run(steps=80, pause=2.0, breaks=0.15))
    world.check()


@pytest.mark.worlds(20)
def test_a_peer_whose_edge_was_cut_off_is_back_although_the_update_about_that_is_lost(
    loop: VirtualLoop, seed: int
) -> None:
    world = PayloadWorld(seed, kills=False, devices="ab")
    world.network.loses = lambda payload: b'"peer_back"' in payload
    loop.run_until_complete(world.run_cut(EDGE_DEAD_AFTER + 3.0))
    world.check()


@pytest.mark.worlds(10)
def test_an_edge_that_repeats_every_batch_as_its_own_with_other_payloads_changes_nothing(
    loop: VirtualLoop, seed: int
) -> None:
    """The worst that NATS lets an edge publish: its own name in the subject, all else of another's batch."""
    world = PayloadWorld(seed, kills=False)
    publish = world.network.publish

    def publish_and_forge(subject: str, payload: bytes, reply: str = "") -> None:
        tokens = subject.split(".")
        if tokens[3:4] == ["up"]:
            tokens[4] = "edge-x"
            publish(".".join(tokens), bytes(len(payload)), reply)
        publish(subject, payload, reply)

    world.network.publish = publish_and_forge  # type: ignore[method-assign]
    before = dropped.labels("false_claim")._value.get()
    loop.run_until_complete(world.run())
    world.check()
    assert dropped.labels("false_claim")._value.get() > before
