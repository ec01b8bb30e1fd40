"""Every payload arrives once, in order, and is counted once: whatever drops, dies or is lost on the way."""

from collections.abc import Iterator

import pytest

from cloudmatch_bus.process import clock
from relay_model.time import JumpingLoop
from relay_model.world import World


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[JumpingLoop]:
    """A loop whose time jumps, also for who asks the relay what time it is."""
    jumping = JumpingLoop()
    monkeypatch.setattr(clock, "time", jumping)
    yield jumping
    jumping.close()


def run(loop: JumpingLoop, world: World, *, kills: bool) -> None:
    """Run a world to its end, and look at what must hold."""
    loop.run_until_complete(world.run(kills=kills))
    world.check()


@pytest.mark.parametrize("seed", range(40))
def test_devices_that_drop_and_return_lose_nothing_and_sizes_are_told_once(
    loop: JumpingLoop, seed: int
) -> None:
    run(loop, World(seed), kills=False)


@pytest.mark.parametrize("seed", range(40))
def test_devices_whose_edges_are_killed_lose_nothing(loop: JumpingLoop, seed: int) -> None:
    run(loop, World(seed), kills=True)
