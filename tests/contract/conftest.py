"""The HTTP applications of the services."""

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar import Litestar

from cloudmatch_analytics.http_api import create_app
from cloudmatch_analytics.window_store import WindowStore
from cloudmatch_bus.contract.messages import AmountReported, DeviceRecord, MatchMade
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.http import application
from cloudmatch_bus.process.http_keys import Keys
from cloudmatch_journal.core.ledger import Ledger
from cloudmatch_journal.http_api import handlers
from cloudmatch_journal.store import Store
from cloudmatch_match_engine.core.cluster import Cluster
from cloudmatch_match_engine.core.heartbeat_log import HeartbeatLog
from cloudmatch_match_engine.core.keys import device_id
from cloudmatch_match_engine.core.matcher import PLANAR_REACH
from cloudmatch_match_engine.core.membership import Membership
from cloudmatch_match_engine.core.presence import Presence
from cloudmatch_match_engine.core.roster import Roster
from cloudmatch_match_engine.http_api import routes
from cloudmatch_match_engine.inspection import COMPLETE_AFTER, Inspection


def engine() -> Inspection:
    """What a worker knows to whose cluster device a is connected."""
    roster = Roster()
    a = DeviceRecord(app="default", device="a", edge="edge-0", connection_id=1, lat=1, lon=1)
    roster.put(device_id("default", "a"), a, 1)
    clock = itertools.count(step=COMPLETE_AFTER)
    inspection = Inspection(roster, lambda: None, PLANAR_REACH, lambda: next(clock))
    logs = {"edges": HeartbeatLog(), "workers": HeartbeatLog()}
    inspection.join(Cluster(roster, Presence(0.0), Membership("worker", 0.0), **logs), lambda: False)
    return inspection


@pytest.fixture
def services(tmp_path: Path) -> Iterator[dict[str, Litestar]]:
    """The HTTP applications of the services, without their servers; the journal has match 1."""
    with applications(tmp_path, None) as made:
        yield made


@contextlib.contextmanager
def applications(tmp_path: Path, keys: Keys | None) -> Iterator[dict[str, Litestar]]:
    """Make the HTTP applications of the services, which ask for these keys."""
    store, ledger = Store(tmp_path, 100), Ledger()
    positions = itertools.count(1)

    def publish(fact: AmountReported | MatchMade) -> bool:
        position = next(positions)
        store.append([(position, fact)])
        return ledger.fold(position, fact)

    publish(MatchMade(app="default", at=1, match=1, device="c", peer="a", distance=111_000))
    stop = asyncio.Event()
    stop.set()  # streams end at once
    yield {
        "journal": application("journal", Health(), handlers(store, ledger, publish), keys=keys),
        "engine": application("match-engine", Health(), routes(engine), keys=keys),
        "bridge": application("bridge-rabbit", Health(), keys=keys),
        "analytics": create_app(Health(), WindowStore(1, 1000), stop, keys=keys),
    }
    store.close()
