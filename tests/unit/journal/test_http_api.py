"""The HTTP API over store and ledger, without a bus."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from litestar.testing import TestClient

from cloudmatch_bus.client.follower import Delivery
from cloudmatch_bus.contract.deliveries import Claim, span
from cloudmatch_bus.contract.messages import AmountReported, DeviceConnected, MatchMade
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.http import BODY_MAX, application
from cloudmatch_journal.files import StoreError
from cloudmatch_journal.http_api import handlers
from cloudmatch_journal.journal import Journal
from cloudmatch_journal.pages import Page, Search
from cloudmatch_journal.store import Store
from unit.journal.samples import claimed, counted, payload


@pytest.fixture
def published(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    facts: list[Any] = []

    def publish(fact: Any) -> bool:
        facts.append(fact)
        return True

    monkeypatch.setattr(journal, "publish", publish)
    return facts


@pytest.fixture
def client(journal: Journal, published: list[AmountReported]) -> Iterator[TestClient[Any]]:
    app = application("journal", Health(), handlers(journal.store, journal.ledger, journal.publish))
    with TestClient(app) as client:
        yield client


async def fill(journal: Journal, last: int) -> None:
    for position in range(1, last + 1):
        await journal.append([payload(position)])


async def test_pages_have_the_first_position_of_the_journal(
    client: TestClient[Any], journal: Journal
) -> None:
    await fill(journal, 6)
    assert client.get("/events").json()["begins"] == 0
    journal.store.drop_segments(1)
    for path in ("/events", "/device/events/a", "/events?after=5"):
        assert client.get(path).json()["begins"] == 5
    assert [e["position"] for e in client.get("/events").json()["events"]] == [5, 6]
    assert client.get("/device/state/a").json()["bytesSent"] == 24
    schema = client.get("/schema/openapi.json").json()
    assert "dropped" in schema["components"]["schemas"]["Events"]["properties"]["begins"]["description"]


def test_a_report_of_2019_is_published_and_answered_with_thanks(
    client: TestClient[Any], published: list[AmountReported]
) -> None:
    answer = client.post("/device/event", json={"deviceId": "a", "eventType": "bytesSent", "amount": 4})
    assert (answer.status_code, answer.text) == (200, '"Thanks!"')
    assert answer.headers["content-type"] == "application/json"
    answer = client.post(
        "/device/event", json={"deviceId": "a", "eventType": "connectionsOpen", "amount": -1}
    )
    assert answer.status_code == 200
    assert [(f.app, f.device, f.event_type, f.amount) for f in published] == [
        ("default", "a", "bytesSent", 4),
        ("default", "a", "connectionsOpen", -1),
    ]
    assert all(f.at > 1_700_000_000_000 for f in published)


COLLECTION = b'{"deviceId":"c","eventType":"connectionOpen","amount":"300"}'  # a request of 2019, as it was


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json;charset=utf-8",
        ' application/json ; charset="UTF-8"',
        "application/vnd.cloudmatch.v2+json",
    ],
)
def test_the_report_of_the_collection_of_2019_is_published_under_the_name_that_was_meant(
    client: TestClient[Any], published: list[AmountReported], content_type: str
) -> None:
    answer = client.post("/device/event", content=COLLECTION, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()) == (200, "Thanks!")
    assert [(f.device, f.event_type, f.amount) for f in published] == [("c", "connectionsOpen", 300)]


@pytest.mark.parametrize(
    "content_type",
    [
        *("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"),
        *("application/octet-stream", "application/jsonp", "application/json, text/plain", "json", "+json"),
        *("text/plain;application/json", "text/plain, application/a+json", ""),
        None,
    ],
)
def test_a_report_that_is_not_declared_as_json_is_refused_as_any_page_could_send_it(
    client: TestClient[Any], published: list[AmountReported], content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = client.post("/device/event", content=COLLECTION, headers=headers)
    assert answer.status_code == 415
    assert answer.json()["error"]["code"] == "unsupported_media_type"
    assert answer.json()["error"]["detail"].startswith("Content-Type must be application/json, ")
    assert published == []


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
        b"[" * 200_000,
        b'{"deviceId":' + b"[" * 200_000,
        b'{"deviceId":"\xff","eventType":"bytesSent","amount":1}',
    ],
)
def test_an_invalid_report_is_refused_and_not_published(
    client: TestClient[Any],
    published: list[AmountReported],
    caplog: pytest.LogCaptureFixture,
    body: bytes,
) -> None:
    answer = client.post("/device/event", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad_request"
    assert answer.json()["error"]["detail"]
    assert published == []
    assert not [record for record in caplog.records if record.name == "http"]


def test_a_report_may_have_256_kib_and_no_byte_more(
    client: TestClient[Any], published: list[AmountReported]
) -> None:
    for size, status in ((BODY_MAX, 200), (BODY_MAX + 1, 413)):
        body = COLLECTION.ljust(size)
        answer = client.post("/device/event", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == status
    assert answer.json()["error"]["code"] == "too_large"
    assert len(published) == 1


def test_a_report_that_cannot_be_published_is_refused(store: Store, journal: Journal) -> None:
    app = application("journal", Health(), handlers(store, journal.ledger, journal.publish))
    with TestClient(app) as client:
        answer = client.post("/device/event", json={"deviceId": "a", "eventType": "bytesSent", "amount": 4})
    assert answer.status_code == 503
    assert "error" in answer.json()


async def test_a_device_has_a_state(client: TestClient[Any], journal: Journal) -> None:
    connected = DeviceConnected(app="default", at=9, device="a", edge="e", connection_id=1, lat=1, lon=2)
    matched = MatchMade(app="default", at=9, match=7, device="a", peer="b/ø ?", distance=3)
    await journal.append([Delivery(1, connected), Delivery(2, matched), payload(3)])
    assert client.get("/device/state/a").json() == {
        "deviceId": "a",
        "connectionsOpen": 1,
        "bytesSent": 4,
        "bytesReceived": 0,
        "messagesSent": 1,
        "messagesReceived": 0,
        "matches": 1,
        "lastSeen": 3,
    }
    answer = client.get("/device/state/b%2F%C3%B8%20%3F")
    assert answer.json()["bytesReceived"] == 4
    assert answer.json()["deviceId"] == "b/ø ?"


async def test_ids_and_apps_of_64_characters_of_four_bytes_have_states_and_events(
    client: TestClient[Any], journal: Journal
) -> None:
    name, app = "\N{THERMOMETER}" * 64, "\N{GLOBE WITH MERIDIANS}" * 64
    connected = DeviceConnected(app=app, at=9, device=name, edge="e", connection_id=1, lat=1, lon=2)
    await journal.append([Delivery(1, connected)])
    path, query = quote(name, safe=""), f"?app={quote(app)}"
    assert client.get(f"/device/state/{path}{query}").json()["deviceId"] == name
    (event,) = client.get(f"/device/events/{path}{query}").json()["events"]
    assert (event["fact"]["app"], event["fact"]["device"]) == (app, name)


def test_an_unknown_device_is_answered_as_in_2019_by_a_json_string(client: TestClient[Any]) -> None:
    for path, sentence in {
        "/device/state/nobody": "deviceId nobody could not be found",
        "/device/state/n%22o%2F%C3%B8": 'deviceId n"o/ø could not be found',
        "/device/state/a?app=other": "deviceId a could not be found in app other",
    }.items():
        answer = client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")
        assert answer.json() == sentence


async def test_events_are_paged_by_position(client: TestClient[Any], journal: Journal) -> None:
    connected = DeviceConnected(app="default", at=9, device="c", edge="e", connection_id=1, lat=1, lon=2)
    await journal.append([payload(3), Delivery(4, connected), payload(6)])
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


async def test_each_span_of_a_batch_is_an_event_at_the_position_of_the_batch(
    client: TestClient[Any], journal: Journal
) -> None:
    spans = [span("a", "b", 7, 0, [4, 5]), span("c", "d", 8, 0, [6])]
    claims = [Claim("a", "b", 7, 3, span("a", "b", 7, 2, [9]))]
    await journal.append([payload(1), counted(2, *spans), claimed(3, *claims)])
    page = client.get("/events?after=1&limit=1").json()
    first = {"type": "delivered", "app": "default", "at": 2, "match": 7, "sender": "a", "receiver": "b"}
    second = {**first, "match": 8, "sender": "c", "receiver": "d", "sizes": [6]}
    assert page["events"] == [
        {"position": 2, "fact": {**first, "sizes": [4, 5]}},
        {"position": 2, "fact": second},
    ]
    assert (page["next"], page["more"]) == (2, True)
    claim = {**first, "type": "claimed", "at": 3, "delivered": 3, "sizes": [9]}
    assert client.get("/events?type=claimed").json()["events"] == [{"position": 3, "fact": claim}]
    mine = client.get("/device/events/c").json()
    assert [event["fact"] for event in mine["events"]] == [second]
    schema = client.get("/schema/openapi.json").json()["components"]["schemas"]
    shapes = {shape["$ref"].rpartition("/")[2] for shape in schema["Event"]["properties"]["fact"]["oneOf"]}
    assert {"PayloadsDelivered", "PayloadsClaimed"} < shapes
    assert not {"DeliveriesCounted", "DeliveriesClaimed"} & schema.keys()


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "after=-1", "after=x", "type=nonsense"]
)
def test_an_invalid_query_is_refused_by_the_name_of_its_parameter(
    client: TestClient[Any], query: str
) -> None:
    answer = client.get(f"/events?{query}")
    assert answer.status_code == 400
    assert query.split("=")[0] in answer.json()["error"]["detail"]


async def test_a_match_has_a_state(client: TestClient[Any], journal: Journal) -> None:
    matched = MatchMade(app="default", at=9, match=7, device="a", peer="b/ø ?", distance=3)
    await journal.append([Delivery(1, matched), payload(2)])
    assert client.get("/match/7").json() == {
        "matchId": 7,
        "app": "default",
        "devices": ["a", "b/ø ?"],
        "distance": 3.0,
        "madeAt": 9,
        "endedAt": None,
        "endedBy": None,
        "reason": None,
        "unaccounted": 0,
        "ways": [
            {"sender": "a", "receiver": "b/ø ?", "payloads": 1, "bytes": 4},
            {"sender": "b/ø ?", "receiver": "a", "payloads": 0, "bytes": 0},
        ],
    }
    answer = client.get("/match/8")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_the_api_is_described_by_openapi(client: TestClient[Any]) -> None:
    schema = client.get("/schema/openapi.json").json()
    assert schema["openapi"].startswith("3.1")
    assert set(schema["paths"]) == {
        "/device/event",
        "/device/{device_id}",
        "/device/state/{device_id}",
        "/device/events/{device_id}",
        "/events",
        "/match/{match_id}",
    }
    schemas = schema["components"]["schemas"]
    assert "bytesReceived" in schemas["Device"]["properties"]
    report = schemas["Report"]["properties"]
    assert report["eventType"]["enum"] == ["connectionsOpen", "connectionOpen", "bytesSent"]
    assert "means `connectionsOpen`" in report["eventType"]["description"]
    assert "in a string" in report["amount"]["description"]


def test_openapi_tells_the_two_answers_of_2019_from_all_other_errors(client: TestClient[Any]) -> None:
    paths = client.get("/schema/openapi.json").json()["paths"]
    shapes = {
        (path, status): answer["content"]["application/json"]["schema"]
        for path, methods in paths.items()
        for method in methods.values()
        for status, answer in method["responses"].items()
    }
    text = {"type": "string"}
    assert shapes.pop(("/device/event", "200")) == text
    assert shapes.pop(("/device/state/{device_id}", "404")) == text
    failed = {key: shape for key, shape in shapes.items() if not key[1].startswith("2")}
    assert {("/device/event", status) for status in ("400", "415", "503")} <= failed.keys()
    assert ("/match/{match_id}", "404") in failed
    assert all(shape == {"$ref": "#/components/schemas/Error"} for shape in failed.values())


def test_a_page_from_a_damaged_segment_is_refused_without_a_traceback(
    client: TestClient[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def page(_search: Search, _limit: int) -> Page:
        raise StoreError("events-1.jsonl is missing")

    monkeypatch.setattr(Search, "page", page)
    answer = client.get("/events")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "events-1.jsonl is missing" in caplog.text
    assert "Traceback" not in caplog.text


async def test_a_device_is_forgotten_on_request_and_only_one_that_is_known(
    client: TestClient[Any], journal: Journal, published: list[Any]
) -> None:
    await journal.append([payload(1)])
    answer = client.delete("/device/b%2F%C3%B8%20%3F")
    assert (answer.status_code, answer.json()) == (202, {"deviceId": "b/ø ?", "app": "default"})
    (fact,) = published
    assert (fact.kind, fact.app, fact.device) == ("forgotten", "default", "b/ø ?")
    for path in ("/device/nobody", "/device/a?app=other"):
        answer = client.delete(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    await journal.append([Delivery(2, fact)])
    assert client.delete("/device/b%2F%C3%B8%20%3F").status_code == 404
    assert client.get("/device/state/a").json()["bytesSent"] == 4
    assert len(published) == 1


async def test_a_device_is_not_forgotten_while_the_bus_takes_nothing(store: Store, journal: Journal) -> None:
    app = application("journal", Health(), handlers(store, journal.ledger, journal.publish))
    await journal.append([payload(1)])
    with TestClient(app) as client:
        assert client.delete("/device/a").status_code == 503
        assert client.get("/device/state/a").status_code == 200
