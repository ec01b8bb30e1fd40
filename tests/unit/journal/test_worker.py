"""Store and ledger in step, and the interface over them, without a bus."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from cloudmatch_bus.client.consumer import Delivery, DownstreamError
from cloudmatch_bus.contract.messages import AmountReported, DeviceConnected, MatchMade, PayloadsDelivered
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.http import application
from cloudmatch_journal.core.retention import DAY, Retention
from cloudmatch_journal.files import StoreError
from cloudmatch_journal.http_api import handlers
from cloudmatch_journal.journal import Journal
from cloudmatch_journal.store import Store

SIZE = 4


def payload(position: int) -> Delivery:
    fact = PayloadsDelivered(app="default", at=position, match=7, sender="a", receiver="b/ø ?", sizes=[4])
    return Delivery(position, fact)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path, SIZE)
    yield store
    store.close()


@pytest.fixture
def journal(store: Store) -> Journal:
    return Journal(store, SIZE)


@pytest.fixture
def published(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> list[AmountReported]:
    facts: list[AmountReported] = []

    def publish(fact: AmountReported) -> bool:
        facts.append(fact)
        return True

    monkeypatch.setattr(journal, "publish", publish)
    return facts


@pytest.fixture
def client(journal: Journal, published: list[AmountReported]) -> Iterator[TestClient[Any]]:
    app = application("journal", Health(), handlers(journal.store, journal.ledger, journal.publish))
    with TestClient(app) as client:
        yield client


def sent(journal: Journal) -> int:
    state = journal.ledger.device("default", "a")
    assert state is not None
    return state.bytes_sent


async def fill(journal: Journal, last: int) -> None:
    for position in range(1, last + 1):
        await journal.take([payload(position)])


async def test_a_repeated_batch_changes_nothing(journal: Journal) -> None:
    await journal.take([payload(1), payload(2)])
    await journal.take([payload(2), payload(3)])
    assert sent(journal) == 12


async def test_a_batch_kept_before_a_failure_is_folded_when_it_comes_again(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = journal.store.append

    def keep_and_fail(batch: Any) -> int:
        keep(batch)
        raise OSError("no space for the seal")

    with monkeypatch.context() as patch:
        patch.setattr(journal.store, "append", keep_and_fail)
        with pytest.raises(DownstreamError, match="no space"):
            await journal.take([payload(1)])
    await journal.take([payload(1)])
    assert sent(journal) == 4


@pytest.mark.parametrize("state", ["saved", "missing", "damaged", "of other rules", "ahead"])
async def test_the_state_is_the_same_after_a_restart_whatever_became_of_the_saved_one(
    journal: Journal, store: Store, tmp_path: Path, state: str
) -> None:
    for position in range(1, 21):
        await journal.take([payload(position)])
    saved = tmp_path / "state.json"
    assert saved.exists()  # it is saved now and then
    match state:
        case "missing":
            saved.unlink()
        case "damaged":
            saved.write_bytes(saved.read_bytes()[:-2] + b"!!")
        case "of other rules":
            store.save(journal.ledger.encode().replace(b'"version":2', b'"version":0'))
        case "ahead":
            journal.ledger.fold(99, payload(99).fact)
            journal.save()
    again = Journal(store, SIZE)
    assert (sent(again), again.ledger.position) == (80, 20)


async def test_a_start_folds_only_what_came_since_the_save(
    journal: Journal, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await journal.take([payload(position) for position in range(1, 11)])
    journal.save()
    await journal.take([payload(11), payload(12)])
    with caplog.at_level("INFO"):
        Journal(store, SIZE)
    assert "2 events folded from position 10" in caplog.text


async def test_the_state_survives_the_events_that_were_let_go(store: Store, tmp_path: Path) -> None:
    journal = Journal(store, SIZE, Retention(days=1))
    await fill(journal, 10)
    journal.retain(now=10 * DAY)
    assert (store.begins, sent(journal)) == (9, 40)
    for state in ("as it is", "missing", "damaged"):
        saved = tmp_path / "state.json"
        if state == "missing":
            saved.unlink(missing_ok=True)
        elif state == "damaged":
            saved.write_bytes(b"rubbish")
        again = Journal(store, SIZE)
        assert (sent(again), again.ledger.position) == (40, 10)
        assert again.ledger.match(7) is not None  # it goes on


async def test_a_base_that_was_lost_is_made_anew_from_the_state(store: Store, tmp_path: Path) -> None:
    journal = Journal(store, SIZE, Retention(days=1))
    await fill(journal, 10)
    journal.retain(now=10 * DAY)
    journal.save()
    tmp_path.joinpath("base.json").write_bytes(b"rubbish")
    Journal(store, SIZE)
    tmp_path.joinpath("state.json").unlink()
    assert sent(Journal(store, SIZE)) == 40


@pytest.mark.parametrize("state", ["missing", "older"])
async def test_a_journal_whose_states_do_not_reach_refuses_to_guess(
    store: Store, tmp_path: Path, state: str
) -> None:
    journal = Journal(store, SIZE, Retention(days=1))
    await fill(journal, 3)
    journal.save()
    older = tmp_path.joinpath("state.json").read_bytes()
    await fill(journal, 10)
    journal.retain(now=10 * DAY)
    tmp_path.joinpath("base.json").write_bytes(b"rubbish")
    if state == "missing":
        tmp_path.joinpath("state.json").unlink()
    else:
        tmp_path.joinpath("state.json").write_bytes(older)
    with pytest.raises(StoreError, match=r"before position 9 were let go.*base\.json"):
        Journal(store, SIZE)


async def test_what_is_too_much_goes_as_events_come(store: Store) -> None:
    journal = Journal(store, SIZE, Retention(size=1000))
    await fill(journal, 200)
    assert store.begins > 1
    assert store.size < 1000 + 2 * SIZE * 120  # until the next save there may be more
    assert sent(journal) == 800


async def test_pages_say_where_the_journal_begins(client: TestClient[Any], journal: Journal) -> None:
    await fill(journal, 6)
    assert client.get("/events").json()["begins"] == 0
    journal.store.let_go(1, journal.ledger.encode())
    for path in ("/events", "/device/events/a", "/events?after=5"):
        assert client.get(path).json()["begins"] == 5
    assert [e["position"] for e in client.get("/events").json()["events"]] == [5, 6]
    assert client.get("/device/state/a").json()["bytesSent"] == 24
    schema = client.get("/schema/openapi.json").json()
    assert "let go" in schema["components"]["schemas"]["Events"]["properties"]["begins"]["description"]


def test_a_report_of_2019_is_thanked_and_published(
    client: TestClient[Any], published: list[AmountReported]
) -> None:
    answer = client.post("/device/event", json={"deviceId": "a", "eventType": "bytesSent", "amount": 4})
    assert (answer.status_code, answer.text) == (200, "Thanks!")
    answer = client.post(
        "/device/event", json={"deviceId": "a", "eventType": "connectionsOpen", "amount": -1}
    )
    assert answer.status_code == 200
    assert [(f.app, f.device, f.event_type, f.amount) for f in published] == [
        ("default", "a", "bytesSent", 4),
        ("default", "a", "connectionsOpen", -1),
    ]
    assert all(f.at > 1_700_000_000_000 for f in published)


@pytest.mark.parametrize(
    "body",
    [
        b'{"deviceId":"a","eventType":"bytesEaten","amount":1}',
        b'{"deviceId":"a","eventType":"bytesSent","amount":"many"}',
        b'{"deviceId":"a","eventType":"bytesSent","amount":1.5}',
        b'{"deviceId":"a","eventType":"bytesSent","amount":-1}',
        b'{"deviceId":"a","eventType":"bytesSent","amount":1000000000000000}',
        b'{"deviceId":"a","eventType":"bytesSent"}',
        b'{"deviceId":"","eventType":"bytesSent","amount":1}',
        b'{"deviceId":7,"eventType":"bytesSent","amount":1}',
        b'{"eventType":"bytesSent","amount":1}',
        b"[1]",
        b"nonsense",
        b"",
    ],
)
def test_a_bad_report_is_refused_and_published_nowhere(
    client: TestClient[Any], published: list[AmountReported], body: bytes
) -> None:
    answer = client.post("/device/event", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad_request"
    assert answer.json()["error"]["detail"]
    assert published == []


def test_a_report_the_bus_cannot_take_is_refused(store: Store, journal: Journal) -> None:
    app = application("journal", Health(), handlers(store, journal.ledger, journal.publish))
    with TestClient(app) as client:
        answer = client.post("/device/event", json={"deviceId": "a", "eventType": "bytesSent", "amount": 4})
    assert answer.status_code == 503
    assert "error" in answer.json()


async def test_a_device_has_a_state(client: TestClient[Any], journal: Journal) -> None:
    connected = DeviceConnected(app="default", at=9, device="a", edge="e", connection_id=1, lat=1, lon=2)
    matched = MatchMade(app="default", at=9, match=7, device="a", peer="b/ø ?", distance=3)
    await journal.take([Delivery(1, connected), Delivery(2, matched), payload(3)])
    assert client.get("/device/state/a").json() == {
        "deviceId": "a",
        "connectionsOpen": 1,
        "bytesSent": 4,
        "bytesReceived": 0,
        "messagesSent": 1,
        "messagesReceived": 0,
        "matches": 1,
        "lastSeen": 9,
    }
    answer = client.get("/device/state/b%2F%C3%B8%20%3F")
    assert answer.json()["bytesReceived"] == 4
    assert answer.json()["deviceId"] == "b/ø ?"
    for path in ("/device/state/z", "/device/state/a?app=other"):
        assert client.get(path).status_code == 404
        assert client.get(path).json()["error"]["code"] == "not_found"


async def test_events_are_paged_by_position(client: TestClient[Any], journal: Journal) -> None:
    connected = DeviceConnected(app="default", at=9, device="c", edge="e", connection_id=1, lat=1, lon=2)
    await journal.take([payload(3), Delivery(4, connected), payload(6)])
    page = client.get("/events?limit=2").json()
    assert [(e["position"], e["fact"]["type"]) for e in page["events"]] == [
        (3, "delivered"),
        (4, "connected"),
    ]
    assert (page["next"], page["more"]) == (4, True)
    page = client.get("/events?after=4&limit=2").json()
    assert [e["position"] for e in page["events"]] == [6]
    assert (page["next"], page["more"]) == (6, False)
    positions = {
        path: [e["position"] for e in client.get(path).json()["events"]]
        for path in ("/events?type=delivered", "/device/events/c", "/device/events/b%2F%C3%B8%20%3F?after=3")
    }
    assert list(positions.values()) == [[3, 6], [4], [6]]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "after=-1", "after=x", "type=nonsense"]
)
def test_a_bad_query_is_refused_by_name(client: TestClient[Any], query: str) -> None:
    answer = client.get(f"/events?{query}")
    assert answer.status_code == 400
    assert query.split("=")[0] in answer.json()["error"]["detail"]


async def test_a_match_has_its_story(client: TestClient[Any], journal: Journal) -> None:
    matched = MatchMade(app="default", at=9, match=7, device="a", peer="b/ø ?", distance=3)
    await journal.take([Delivery(1, matched), payload(2)])
    assert client.get("/match/7").json() == {
        "matchId": 7,
        "app": "default",
        "devices": ["a", "b/ø ?"],
        "distance": 3.0,
        "madeAt": 9,
        "endedAt": None,
        "endedBy": None,
        "reason": None,
        "ways": [
            {"sender": "a", "receiver": "b/ø ?", "payloads": 1, "bytes": 4},
            {"sender": "b/ø ?", "receiver": "a", "payloads": 0, "bytes": 0},
        ],
    }
    assert client.get("/match/8").status_code == 404


def test_the_interface_describes_itself(client: TestClient[Any]) -> None:
    schema = client.get("/schema/openapi.json").json()
    assert schema["openapi"].startswith("3.1")
    assert set(schema["paths"]) == {
        "/device/event",
        "/device/state/{device_id}",
        "/device/events/{device_id}",
        "/events",
        "/match/{match_id}",
    }
    assert "bytesReceived" in schema["components"]["schemas"]["Device"]["properties"]
