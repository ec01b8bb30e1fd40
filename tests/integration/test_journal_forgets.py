"""A device is forgotten on request: in answers, on disk, and after each start."""

import asyncio
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudmatch_bus.contract.deliveries import span
from cloudmatch_bus.contract.messages import DeliveriesCounted, DeviceConnected, MatchMade
from harness import NatsServer, Service, eventually
from harness.facts import facts

pytestmark = pytest.mark.servers

Start = Callable[..., Service]
ID = "secret-device"


def delete(service: Service, path: str) -> int:
    request = urllib.request.Request(service.url + path, method="DELETE")  # noqa: S310 # http, on loopback
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 # the same
        return int(answer.status)


def named(service: Service) -> list[str]:
    folder = Path(service.env["CLOUDMATCH_RUN_DIR"], "journal")
    return [file.name for file in folder.iterdir() if ID in file.read_text()]


async def test_a_device_is_forgotten_and_its_peer_has_lost_nothing(
    nats_server: NatsServer, start: Start
) -> None:
    service = start(
        "journal", {"CLOUDMATCH_NATS_URL": nats_server.url, "CLOUDMATCH_JOURNAL_SEGMENT_SIZE": "2"}
    )
    spans = [span(ID, "b", 7, 0, [4, 5]), span("b", ID, 7, 0, [6])]
    async with facts(nats_server.url) as bus:
        for fact in (
            DeviceConnected(app="default", at=1, device=ID, edge="e", connection_id=1, lat=45.5, lon=9),
            MatchMade(app="default", at=1, match=7, device=ID, peer="b", distance=3.5),
            DeliveriesCounted(app="default", at=2, source="edge-0", incarnation=1, number=1, spans=spans),
        ):
            bus.publisher.publish(fact)
        await eventually(lambda: service.metric("cloudmatch_journal_events_total") == 3)
        peer = service.get_json("/device/state/b")
        assert named(service)
        assert await asyncio.to_thread(delete, service, f"/device/{ID}") == 202
        await eventually(lambda: service.get(f"/device/state/{ID}")[0] == 404)
        await eventually(lambda: not named(service))
        await asyncio.to_thread(service.restart)
        assert service.get_json("/device/state/b") == peer
        assert service.get(f"/device/state/{ID}")[0] == 404
        assert service.get_json(f"/device/events/{ID}")["events"] == []
        counted = service.get_json("/events?type=delivered")["events"]
        assert [event["fact"]["sizes"] for event in counted] == [[4, 5], [6]]
        (forgotten,) = service.get_json("/events?type=forgotten")["events"]
        assert forgotten["fact"]["device"] == f"forgotten-{forgotten['position']}"
        verified = await asyncio.to_thread(service.ask, "verify")
        assert (verified.returncode, verified.stdout) == (0, "")
        exported = await asyncio.to_thread(service.ask, "export")
        assert ID not in exported.stdout
        assert len(exported.stdout.splitlines()) == 5
        assert service.get_json("/events?type=lost")["events"] == []
