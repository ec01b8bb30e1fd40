"""Whoever speaks for somebody else is refused; who speaks for itself is read."""

import pytest

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.claims import FalseClaimError, fact_on, heartbeat_on, requests_on
from cloudmatch_bus.contract.deliveries import span
from cloudmatch_bus.contract.messages import (
    DeliveriesCounted,
    DeviceLeft,
    Heartbeat,
    StepAway,
    encode,
)
from cloudmatch_bus.contract.request_batches import RequestBatch
from cloudmatch_bus.contract.unreadable import UNREADABLE

APP, EDGE = "demo app", "edge.0"


def away(device: str = "a", edge: str = EDGE, app: str = APP) -> StepAway:
    return StepAway(app=app, device=device, edge=edge, connection_id=1)


def batch_subject(edge: str = EDGE) -> str:
    return subjects.match_batch(subjects.match_lane(APP, ""), edge)


def test_a_batch_of_an_edges_own_requests_is_read() -> None:
    batch = RequestBatch(requests=[away("a"), away("b")])
    assert requests_on(batch_subject(), encode(batch)) == batch


@pytest.mark.parametrize("false", [away(edge="edge.1"), away(app="other")])
def test_a_batch_with_one_request_of_another_edge_or_app_is_refused_whole(false: StepAway) -> None:
    with pytest.raises(FalseClaimError, match=r"cm\.v1\.demo=20app\.match\..*edge=2E0"):
        requests_on(batch_subject(), encode(RequestBatch(requests=[away(), false])))


def test_a_request_of_an_earlier_edge_is_read_on_the_subject_of_its_device() -> None:
    assert requests_on(subjects.match(APP, "", "a"), encode(away("a"))) == away("a")


@pytest.mark.parametrize("false", [away("b"), away("a", app="other")])
def test_a_request_on_its_own_about_another_device_or_app_is_refused(false: StepAway) -> None:
    with pytest.raises(FalseClaimError):
        requests_on(subjects.match(APP, "", "a"), encode(false))


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        (subjects.match(APP, "", "a"), RequestBatch(requests=[away("a")])),
        (batch_subject(), away("a")),
        ("", away("a")),
        ("a.b", RequestBatch(requests=[away("a")])),
    ],
)
def test_a_batch_and_a_single_request_have_subjects_of_their_own(subject: str, message: object) -> None:
    with pytest.raises(FalseClaimError):
        requests_on(subject, encode(message))


def test_a_heartbeat_is_read_on_the_subject_of_its_process_alone() -> None:
    heartbeat = Heartbeat(role="edge", name=EDGE)
    assert heartbeat_on(subjects.heartbeat("edge", EDGE), encode(heartbeat)) == heartbeat
    for subject in (subjects.heartbeat("worker", EDGE), subjects.heartbeat("edge", "edge.1")):
        with pytest.raises(FalseClaimError):
            heartbeat_on(subject, encode(heartbeat))


def test_a_fact_about_many_devices_is_read_on_the_subject_of_its_source_alone() -> None:
    spans = [span("a", "b", 1, 0, [4])]
    fact = DeliveriesCounted(app=APP, at=1, source=EDGE, incarnation=1, number=1, spans=spans)
    assert fact_on(subjects.ev(APP, "deliveries", EDGE), encode(fact)) == fact
    for subject in (
        subjects.ev(APP, "deliveries", "edge.1"),
        subjects.ev("other", "deliveries", EDGE),
        subjects.ev(APP, "claimed", EDGE),
    ):
        with pytest.raises(FalseClaimError):
            fact_on(subject, encode(fact))


def test_a_fact_about_one_device_is_read_on_its_subject_alone() -> None:
    fact = DeviceLeft(app=APP, at=1, device="a", edge=EDGE, connection_id=1, code=1000)
    assert fact_on(subjects.ev(APP, "left", "a"), encode(fact)) == fact
    with pytest.raises(FalseClaimError):
        fact_on(subjects.ev(APP, "left", "b"), encode(fact))


@pytest.mark.parametrize("read", [requests_on, heartbeat_on, fact_on])
def test_what_is_no_message_is_unreadable(read: object) -> None:
    with pytest.raises(UNREADABLE):
        read(batch_subject(), b"{}")  # type: ignore[operator]


def test_a_false_claim_is_caught_with_what_is_unreadable() -> None:
    assert issubclass(FalseClaimError, UNREADABLE)
