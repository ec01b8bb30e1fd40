"""A worker answers people only what it knows, and says when it knows too little."""

import asyncio
import json
import time

import pytest
from msgspec.structs import replace

from cloudmatch_bus.client.micro import EndpointError
from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_bus.process.searches import AT_ONCE, WAITING
from cloudmatch_match_engine.core.cluster import Cluster
from cloudmatch_match_engine.core.heartbeat_log import HeartbeatLog
from cloudmatch_match_engine.core.keys import device_id
from cloudmatch_match_engine.core.listing import LARGEST
from cloudmatch_match_engine.core.matcher import PLANAR_REACH
from cloudmatch_match_engine.core.membership import Membership
from cloudmatch_match_engine.core.presence import Presence
from cloudmatch_match_engine.core.roster import Roster
from cloudmatch_match_engine.inspection import COMPLETE_AFTER, Inspection, UnknownDeviceError


class Known:
    """What a worker knows: device a, which waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.incomplete: str | None = None
        self.roster = Roster()
        a = DeviceRecord(app="default", device="a", edge="e", connection_id=1, lat=0, lon=0)
        self.roster.put(device_id("default", "a"), a, 1)
        self.inspection = Inspection(
            self.roster, lambda: self.incomplete, PLANAR_REACH, clock=lambda: self.now
        )

    def join(self) -> None:
        logs = {"edges": HeartbeatLog(), "workers": HeartbeatLog()}
        cluster = Cluster(self.roster, Presence(self.now), Membership("me", self.now), **logs)
        self.inspection.join(cluster, lambda: False)

    async def ask(self, subject: str, payload: bytes) -> tuple[int, object]:
        """Ask on the bus; return the code and the answer or the error."""
        (handler,) = (e.handler for e in self.inspection.endpoints() if e.name == subject)
        try:
            return 200, json.loads(await handler(payload))
        except EndpointError as error:
            return error.code, str(error)

    async def code(self, subject: str, payload: bytes) -> int:
        return (await self.ask(subject, payload))[0]


@pytest.fixture
def known() -> Known:
    return Known()


async def test_the_cluster_is_unknown_until_every_process_must_have_been_heard(known: Known) -> None:
    for _ in range(2):
        with pytest.raises(LookupError, match="just started"):
            known.inspection.cluster()
        known.now += 100.0
        known.join()
    known.now += COMPLETE_AFTER
    assert known.inspection.cluster().answered_by == "me"
    explanation = await known.inspection.explain("default", "a")
    assert explanation.state == "waiting", "which needs no other process"


async def test_neither_question_is_answered_from_an_incomplete_mirror(known: Known) -> None:
    known.join()
    known.now += COMPLETE_AFTER
    known.incomplete = "the mirror is incomplete"
    with pytest.raises(LookupError, match="the mirror is incomplete"):
        known.inspection.cluster()
    with pytest.raises(LookupError, match="the mirror is incomplete"):
        await known.inspection.explain("default", "a")
    assert await known.ask("cluster", b"{}") == (503, "the mirror is incomplete")


async def test_an_unknown_device_is_no_answer_about_another(known: Known) -> None:
    known.join()
    known.now += COMPLETE_AFTER
    found = known.inspection.cluster("default", "a").device
    assert found is not None
    assert found.edge == "e"
    unknown = "no device 'x' is connected in app 'default'"
    with pytest.raises(UnknownDeviceError, match=unknown):
        known.inspection.cluster("default", "x")
    with pytest.raises(UnknownDeviceError, match=unknown):
        await known.inspection.explain("default", "x")
    assert await known.code("cluster", b'{"id": "x"}') == await known.code("explain", b'{"id": "x"}') == 404


@pytest.mark.parametrize("payload", [b"", b"?", b"[]", b'{"id": 7}', b'{"id": ""}', b'{"id": "\xff"}'])
async def test_a_malformed_request_on_the_bus_is_400(known: Known, payload: bytes) -> None:
    known.join()
    known.now += COMPLETE_AFTER
    assert await known.code("cluster", payload) == 400
    assert await known.code("cluster", b"{}") == 200


async def test_a_device_is_told_and_an_unknown_one_is_404(known: Known) -> None:
    a = {"device": "a", "state": "waiting", "connected": True, "edge": "e"}
    a |= {"tag": None, "match": None, "peer": None}
    assert await known.ask("device", b'{"id": "a"}') == (200, a)
    assert await known.ask("devices", b"{}") == (200, {"app": "default", "devices": [a], "next": None})
    assert await known.code("device", b'{"id": "x"}') == 404
    assert await known.code("device", b'{"id": "a", "app": "other"}') == 404
    known.incomplete = "the mirror is incomplete"
    assert await known.ask("device", b'{"id": "a"}') == (503, "the mirror is incomplete")
    assert await known.ask("devices", b"{}") == (503, "the mirror is incomplete")


@pytest.mark.parametrize(
    "wanted",
    [
        {"limit": 0},
        {"limit": LARGEST + 1},
        {"state": "asleep"},
        {"connected": 1},
        {"tag": 7},
        {"cursor": "?"},
        {"cursor": "_w=="},
    ],
)
async def test_a_malformed_request_for_devices_is_400(known: Known, wanted: dict[str, object]) -> None:
    assert await known.code("devices", json.dumps(wanted).encode()) == 400
    within = {"limit": LARGEST, "state": "waiting", "connected": True, "tag": None, "cursor": ""}
    assert await known.code("devices", json.dumps(within).encode()) == 200


@pytest.mark.parametrize("question", ["explain", "devices"])
async def test_questions_about_a_crowd_leave_the_loop_to_others_and_some_are_refused(
    known: Known, question: str
) -> None:
    near = DeviceRecord(app="default", device="a", edge="e", connection_id=1, lat=1, lon=1)
    for number in range(20_000):
        record = replace(near, device=f"d{number}", lon=number / 1e5)
        known.roster.put(device_id("default", record.device), record, 2 + number)
    payload = {"explain": b'{"id": "a"}', "devices": b'{"limit": 500}'}[question]
    asking = (known.code(question, payload) for _ in range(AT_ONCE + WAITING + 5))
    asked = [asyncio.ensure_future(each) for each in asking]
    longest = 0.0  # CPU of this thread in one turn
    while not all(each.done() for each in asked):
        before = time.thread_time()
        await asyncio.sleep(0)
        longest = max(longest, time.thread_time() - before)
        await asyncio.sleep(0.001)
    codes = [each.result() for each in asked]
    assert (codes.count(200), codes.count(503)) == (AT_ONCE + WAITING, 5)
    assert longest < 0.05
