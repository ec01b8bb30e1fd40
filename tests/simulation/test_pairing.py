"""No order of steps of workers, edges and the bucket, and no failure of theirs, leads to a wrong match.

The real `PairingHandler` and `Roster` run on a bucket in memory (`simulation`), and a seeded scheduler
decides at every await which task runs next. Devices connect, move, leave their match, drop, return to any
edge, leave. Bucket calls are carried out and answered in separate steps, or fail with an unknown outcome;
mirrors lag and restart; workers die between any two awaits, with their last messages and facts; edges repeat
unanswered requests, freeze and resume, or die with all their connections; frozen workers find requests of
connections that ended long ago. Then all failures end, all work is completed, all graces run out, and
bucket, edges and facts must agree.
"""

import pytest

from cloudmatch_match_engine.pairing import mirror, reservations, store
from simulation.pairing_world import PairingWorld
from simulation.steps import Asyncio


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (mirror, reservations, store):
        monkeypatch.setattr(module, "asyncio", Asyncio)


@pytest.mark.worlds(500)
def test_bucket_edges_and_facts_agree_after_any_order_of_steps_and_failures(seed: int) -> None:
    world = PairingWorld(seed)
    for _ in range(600):
        world.step()
    world.settle()
    world.check()
