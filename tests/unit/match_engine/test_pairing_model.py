"""Nothing that workers, edges, the bucket and their deaths can do in any order leads to a wrong pairing.

The real `Pairing` and `Roster` run on a bucket in memory (`pairing_model`), and a seeded scheduler
decides at every await who goes on. Devices connect, move, part from their partners, drop, return to any
edge, leave. Bucket calls are carried out and answered apart, or fail with an unknown outcome; mirrors lag
and begin anew; workers die between any two awaits, and their last words and facts with them; edges lose
patience and repeat what is not answered, freeze and come back, or die with all that they held; frozen
workers find requests of connections long gone. Then all failures end, everything comes to rest, all grace
runs out, and the world must be in order.
"""

import pytest

from cloudmatch_match_engine.pairing import reservations
from cloudmatch_match_engine.pairing import store as registry
from pairing_model.steps import Asyncio
from pairing_model.world import World


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (registry, reservations):
        monkeypatch.setattr(module, "asyncio", Asyncio)


@pytest.mark.parametrize("seed", range(500))
def test_whatever_happens_in_whatever_order_the_world_ends_in_order(seed: int) -> None:
    world = World(seed)
    for _ in range(600):
        world.do()
    world.settle()
    world.check()
