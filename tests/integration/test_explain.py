"""Any worker explains by HTTP and on the bus why a device is not matched."""

import json
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlencode

import pytest

from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import DevicePaired
from harness import NatsServer, Service, eventually
from harness.edges import FakeEdge, fake_edge

pytestmark = pytest.mark.servers


@pytest.fixture
def workers(nats_server: NatsServer, start: Callable[..., Service]) -> list[Service]:
    return [start("match-engine", {"CLOUDMATCH_NATS_URL": nats_server.url}) for _ in range(2)]


@pytest.fixture
async def edge(nats_server: NatsServer, workers: list[Service]) -> AsyncIterator[FakeEdge]:
    async with fake_edge(nats_server.url) as made:
        yield made


async def ask(bus: Bus, subject: str, **question: str) -> tuple[dict[str, object], dict[str, str]]:
    message = await bus.client.request(subject, json.dumps(question).encode(), timeout=5)
    return json.loads(message.data or b"{}"), message.headers or {}


async def test_any_worker_explains_by_http(edge: FakeEdge, workers: list[Service]) -> None:
    await edge.connect("a/1", 0, 0, radius=100.0)
    await edge.connect("b", 0, 1)
    question = f"/match/explain?{urlencode({'app': 'demo', 'id': 'a/1'})}"
    for worker in workers:
        await eventually(lambda w=worker: w.metric("cloudmatch_match_engine_waiting") == 2)
        explanation = worker.get_json(question)
        assert (explanation["state"], explanation["waiting"]) == ("waiting", 2)
        assert [(n["device"], n["rules"]) for n in explanation["nearest"]] == [("b", ["own_reach"])]
    status, text = workers[0].get("/match/explain?app=demo&id=nobody")
    assert (status, json.loads(text)["error"]["code"]) == (404, "not_found")
    assert workers[0].get("/match/explain?app=demo")[0] == 400


async def test_any_worker_lists_devices_and_a_cursor_of_one_is_good_at_the_other(
    edge: FakeEdge, workers: list[Service]
) -> None:
    for number, name in enumerate(("a", "b", "c", "d")):
        await edge.connect(name, 0, 40.0 * number)
    for worker in workers:
        await eventually(lambda w=worker: w.metric("cloudmatch_match_engine_waiting") == 4)
    listed: list[str] = []
    cursor: str | None = ""
    while cursor is not None:  # whichever worker answers
        page, _ = await ask(edge.bus, subjects.devices(), app="demo", state="waiting", limit=1, cursor=cursor)
        listed += [each["device"] for each in page["devices"]]
        cursor = page["next"]
    assert listed == ["a", "b", "c", "d"]
    device, _ = await ask(edge.bus, subjects.device(), app="demo", id="a")
    assert (device["state"], device["edge"], device["peer"]) == ("waiting", edge.name, None)
    _, headers = await ask(edge.bus, subjects.device(), app="demo", id="nobody")
    assert headers["Nats-Service-Error-Code"] == "404"
    _, headers = await ask(edge.bus, subjects.devices(), app="demo", cursor="?")
    assert headers["Nats-Service-Error-Code"] == "400"


async def test_explain_is_a_micro_service_that_counts_its_requests(
    edge: FakeEdge, workers: list[Service]
) -> None:
    await edge.connect("a", 0, 0)
    for worker in workers:
        await eventually(lambda w=worker: w.metric("cloudmatch_match_engine_waiting") == 1)
    for _ in range(6):
        explanation, _ = await ask(edge.bus, subjects.explain(), app="demo", id="a")
        assert explanation["state"] == "waiting"
    _, headers = await ask(edge.bus, subjects.explain(), id="nobody")
    assert headers["Nats-Service-Error-Code"] == "404"
    _, headers = await ask(edge.bus, subjects.explain(), app="demo")
    assert headers["Nats-Service-Error-Code"] == "400"

    info, _ = await ask(edge.bus, "$SRV.INFO.match-engine")
    assert info["name"] == "match-engine"
    found_subjects = [endpoint["subject"] for endpoint in info["endpoints"]]
    questions = [subjects.explain(), subjects.cluster(), subjects.devices(), subjects.device()]
    assert found_subjects == questions

    found: dict[str, int] = {}
    inbox = edge.bus.client.new_inbox()

    def on_statistics(_: str, __: str, payload: bytes, ___: object) -> None:
        stats = json.loads(payload)
        found[stats["id"]] = stats["endpoints"][0]["num_requests"]

    await edge.bus.subscribe(inbox, on_statistics)
    edge.bus.publish("$SRV.STATS.match-engine", b"", inbox)
    await eventually(lambda: len(found) == 2, what="statistics of both workers")
    assert sum(found.values()) == 8


@pytest.mark.parametrize(
    ("setting", "metres"), [("exact", 678.9), ("rounded", 1000.0), ("none", 0.0), ("", 1000.0)]
)
async def test_distances_are_told_as_the_worker_is_set(
    nats_server: NatsServer, start: Callable[..., Service], setting: str, metres: float
) -> None:
    settings = {"CLOUDMATCH_NATS_URL": nats_server.url, "CLOUDMATCH_MATCH_ENGINE_DISTANCE": setting}
    start("match-engine", settings)
    async with fake_edge(nats_server.url) as edge:
        await edge.connect("a", 52.37, 4.89)
        await edge.connect("b", 52.37, 4.9, radius=1.0)
        answer, _ = await ask(edge.bus, subjects.explain(), app="demo", id="a")
        (neighbour,) = answer["nearest"]  # type: ignore[misc]  # a list
        assert neighbour["distance"] == pytest.approx(metres, abs=0.05)
        c = await edge.connect("c", 52.37, 4.88, radius=1000.0)
        paired = c.history[-1]
        assert isinstance(paired, DevicePaired)
        assert paired.distance == pytest.approx(metres, abs=0.05)
