"""Every worker lists, by HTTP and on the bus, all edges and workers, and says which edge holds a device."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import cloudmatch
from cloudmatch_bus.client.connection import Bus
from cloudmatch_bus.contract import subjects
from harness import NatsServer, Service, eventually
from harness.bus import connected
from harness.classic import device

Start = Callable[..., Service]
pytestmark = pytest.mark.servers

DEADLINE = 20.0  # s: an edge is dead after 3.5
STABLE = ("name", "state", "version", "devices", "max_devices", "partitions", "matched", "waiting", "away")


@pytest.fixture
def workers(nats_server: NatsServer, start: Start) -> list[Service]:
    return [start("match-engine", {"CLOUDMATCH_NATS_URL": nats_server.url}) for _ in range(2)]


@pytest.fixture
def make_edge(nats_server: NatsServer, workers: list[Service], start: Start) -> Callable[..., Service]:
    def make(name: str, **env: str) -> Service:
        bus = {"CLOUDMATCH_NATS_URL": nats_server.url, "CLOUDMATCH_EDGE_NAME": name}
        return start("edge", {**bus, **env})

    return make


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    async with connected(nats_server.url) as made:
        yield made


async def ask(bus: Bus, payload: bytes = b"{}") -> tuple[dict[str, Any], dict[str, str]]:
    message = await bus.client.request(subjects.cluster(), payload, timeout=5)
    return json.loads(message.data or b"{}"), message.headers or {}


def stable(status: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What two workers agree on: everything but times and loads."""
    return {
        kind: [{name: row[name] for name in STABLE if name in row} for row in status[kind]]
        for kind in ("edges", "workers")
    }


def states(worker: Service, kind: str = "edges") -> dict[str, str]:
    """The states by name; none while the worker starts."""
    status, text = worker.get("/cluster")
    assert status in (200, 503), text
    return {row["name"]: row["state"] for row in json.loads(text)[kind]} if status == 200 else {}


async def until_all(workers: list[Service], condition: Callable[[Service], object]) -> None:
    """Wait until a condition holds of what every worker answers."""
    for worker in workers:
        await eventually(lambda w=worker: condition(w), DEADLINE, "the state at every worker")


@contextlib.asynccontextmanager
async def devices(edge: Service, *names: str) -> AsyncIterator[list[cloudmatch.Device]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(cloudmatch.connect(edge.url, id=name, app="demo", lat=0, lon=0))
            for name in names
        ]


async def test_both_workers_agree_by_http_and_on_the_bus(
    make_edge: Callable[..., Service], workers: list[Service], bus: Bus
) -> None:
    one, two = make_edge("edge-1"), make_edge("edge-2", CLOUDMATCH_EDGE_MAX_CONNECTIONS="1")
    async with contextlib.AsyncExitStack() as stack:
        a, x = await stack.enter_async_context(devices(one, "a/1", "x"))
        for each in (a, x):
            await each.matched()
        (b,) = await stack.enter_async_context(devices(two, "b"))  # else it may be matched with either

        def complete(worker: Service) -> bool:
            code, text = worker.get("/cluster")
            if code == 503:  # it starts
                return False
            status = json.loads(text)
            found = [(e["name"], e["state"], e["devices"], e["matched"]) for e in status["edges"]]
            partitions = [each["partitions"] for each in status["workers"]]
            return (
                found == [("edge-1", "alive", 2, 2), ("edge-2", "full", 1, 0)]
                and len(partitions) == 2
                and None not in partitions
                and sum(partitions) == subjects.PARTITIONS
                and [each["devices"] for each in status["workers"]] == [3, 3]
            )

        await until_all(workers, complete)
        first, second = (worker.get_json("/cluster") for worker in workers)
        assert stable(first) == stable(second)
        names = {first["answered_by"], second["answered_by"]}
        assert names == {worker["name"] for worker in first["workers"]}
        assert not first["isolated"]
        assert [problem["kind"] for problem in first["problems"]] == ["full"]
        for row in (*first["edges"], *first["workers"]):
            assert row["version"]
            assert row["load"] >= 0
            assert 0 < row["age"] < 120

        answered = set()
        for _ in range(50):
            status, _ = await ask(bus)
            assert stable(status) == stable(first)
            answered.add(status["answered_by"])
        assert answered == names

        for worker in workers:
            found = worker.get_json("/cluster?app=demo&id=a%2F1")["device"]
            assert (found["edge"], found["state"], found["peer"], found["peer_edge"]) == (
                "edge-1",
                "matched",
                "x",
                "edge-1",
            )
        status, _ = await ask(bus, b'{"app": "demo", "id": "b"}')
        assert (status["device"]["edge"], status["device"]["state"]) == ("edge-2", "waiting")
        assert b.state == "waiting"

    status_code, text = workers[0].get("/cluster?app=demo&id=nobody")
    assert (status_code, json.loads(text)["error"]["code"]) == (404, "not_found")
    assert workers[0].get("/cluster?id=")[0] == 400
    for payload, code in ((b'{"id": "nobody"}', "404"), (b'{"id": 7}', "400"), (b"?", "400")):
        _, headers = await ask(bus, payload)
        assert headers["Nats-Service-Error-Code"] == code


async def test_a_killed_edge_is_dead_and_its_devices_are_released_or_away_until_another_holds_them(
    make_edge: Callable[..., Service], workers: list[Service]
) -> None:
    one, two = make_edge("edge-1"), make_edge("edge-2")

    def holder(worker: Service, name: str) -> tuple[str, str] | None:
        status, text = worker.get(f"/cluster?id={name}")
        found = json.loads(text)["device"] if status == 200 else {}
        return (found["edge"], found["state"]) if found else None

    resuming = cloudmatch.connect(one.url, id="r", lat=50, lon=0, leave_on_exit=False)
    async with resuming, device(one, "a", 1, 1):
        for name in ("a", "r"):
            await until_all(workers, lambda w, n=name: holder(w, n) == ("edge-1", "waiting"))
        one.kill()
        await until_all(workers, lambda w: states(w) == {"edge-1": "dead", "edge-2": "alive"})
        await until_all(workers, lambda w: holder(w, "a") is None)
        await until_all(workers, lambda w: holder(w, "r") == ("edge-1", "away"))
        status = workers[0].get_json("/cluster")
        dead = status["edges"][0]
        assert (dead["devices"], dead["releasing"], dead["waiting"], dead["away"]) == (None, 0, 0, 1)
        assert [problem["kind"] for problem in status["problems"]] == ["dead"]
        async with device(two, "a", 1, 1), device(two, "r", 50, 0):
            for name in ("a", "r"):
                await until_all(workers, lambda w, n=name: holder(w, n) == ("edge-2", "waiting"))
            await asyncio.to_thread(one.restart)
            await until_all(workers, lambda w: states(w) == {"edge-1": "alive", "edge-2": "alive"})


async def test_a_frozen_worker_is_silent_and_alive_again_once_it_continues(
    make_edge: Callable[..., Service], workers: list[Service]
) -> None:
    make_edge("edge-1")
    here, there = workers
    await until_all(workers, lambda w: list(states(w, "workers").values()) == ["alive", "alive"])
    name = there.get_json("/cluster")["answered_by"]
    there.process.signal(signal.SIGSTOP)
    try:
        await eventually(lambda: states(here, "workers")[name] == "silent", DEADLINE, "a silent worker")
        problems = here.get_json("/cluster")["problems"]
        assert [problem["kind"] for problem in problems] == ["silent"]
        assert name in problems[0]["sentence"]
    finally:
        there.process.signal(signal.SIGCONT)
    await until_all(workers, lambda w: list(states(w, "workers").values()) == ["alive", "alive"])
    await asyncio.to_thread(there.terminate)
    await eventually(lambda: states(here, "workers")[name] == "left", DEADLINE, "a worker that has left")
    assert here.get_json("/cluster")["problems"] == []


async def test_an_edge_that_is_stopped_drains_and_then_has_left(
    make_edge: Callable[..., Service], workers: list[Service], bus: Bus
) -> None:
    one, _ = make_edge("edge-1"), make_edge("edge-2")
    await until_all(workers, lambda w: states(w) == {"edge-1": "alive", "edge-2": "alive"})
    seen: set[str] = set()

    def on_heartbeat(_: str, __: str, payload: bytes, ___: object) -> None:
        heartbeat = json.loads(payload)
        seen.update(word for word in ("draining", "leaving") if heartbeat[word])

    await bus.subscribe(subjects.heartbeat("edge", "edge-1"), on_heartbeat)
    async with device(one, "a", 1, 1):
        await asyncio.to_thread(one.terminate)
    await until_all(workers, lambda w: states(w) == {"edge-1": "left", "edge-2": "alive"})
    assert seen == {"draining", "leaving"}
    assert workers[0].get_json("/cluster")["problems"] == []


async def test_two_edges_of_one_name_are_a_conflict(
    make_edge: Callable[..., Service], workers: list[Service]
) -> None:
    older = make_edge("edge-1")
    make_edge("edge-1")
    await until_all(workers, lambda w: states(w) == {"edge-1": "conflict"})
    assert [problem["kind"] for problem in workers[0].get_json("/cluster")["problems"]] == ["conflict"]
    older.kill()
    await until_all(workers, lambda w: states(w) == {"edge-1": "alive"})
