"""A worker answers people only what it knows, and says when it knows too little."""

import json

import pytest

from cloudmatch_bus.client.micro import EndpointError
from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_match_engine.core.cluster import Cluster
from cloudmatch_match_engine.core.heartbeat_log import HeartbeatLog
from cloudmatch_match_engine.core.keys import device_id
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

    def ask(self, subject: str, payload: bytes) -> tuple[int, object]:
        """Ask on the bus; return the code and the answer or the error."""
        (handler,) = (e.handler for e in self.inspection.endpoints() if e.name == subject)
        try:
            return 200, json.loads(handler(payload))
        except EndpointError as error:
            return error.code, str(error)


@pytest.fixture
def known() -> Known:
    return Known()


def test_the_cluster_is_unknown_until_every_process_must_have_been_heard(known: Known) -> None:
    for _ in range(2):
        with pytest.raises(LookupError, match="just started"):
            known.inspection.cluster()
        known.now += 100.0
        known.join()
    known.now += COMPLETE_AFTER
    assert known.inspection.cluster().answered_by == "me"
    assert known.inspection.explain("default", "a").state == "waiting", "which needs no other process"


def test_neither_question_is_answered_from_an_incomplete_mirror(known: Known) -> None:
    known.join()
    known.now += COMPLETE_AFTER
    known.incomplete = "the mirror is incomplete"
    for ask in (known.inspection.cluster, lambda: known.inspection.explain("default", "a")):
        with pytest.raises(LookupError, match="the mirror is incomplete"):
            ask()
    assert known.ask("cluster", b"{}") == (503, "the mirror is incomplete")


def test_an_unknown_device_is_no_answer_about_another(known: Known) -> None:
    known.join()
    known.now += COMPLETE_AFTER
    found = known.inspection.cluster("default", "a").device
    assert found is not None
    assert found.edge == "e"
    for ask in (known.inspection.cluster, known.inspection.explain):
        with pytest.raises(UnknownDeviceError, match="no device 'x' is connected in app 'default'"):
            ask("default", "x")
    assert known.ask("cluster", b'{"id": "x"}')[0] == known.ask("explain", b'{"id": "x"}')[0] == 404


@pytest.mark.parametrize("payload", [b"", b"?", b"[]", b'{"id": 7}', b'{"id": ""}', b'{"id": "\xff"}'])
def test_a_malformed_request_on_the_bus_is_400(known: Known, payload: bytes) -> None:
    known.join()
    known.now += COMPLETE_AFTER
    assert known.ask("cluster", payload)[0] == 400
    assert known.ask("cluster", b"{}")[0] == 200
