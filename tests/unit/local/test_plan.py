"""What `make up` starts and where, decided from the settings alone."""

import trustme

from cloudmatch_bus.process.settings import HttpSettings, read
from cloudmatch_edge.settings import EdgeSettings
from cloudmatch_local.plan import Listener, Plan, describe_waiting, make
from cloudmatch_local.settings import LEGACY_PORTS, SERVICES, AllSettings, groups

ENVIRON = {
    "CLOUDMATCH_NATS_URL": "nats://a:4222,nats://b:4222",
    "CLOUDMATCH_AMQP_URL": "amqp://carol:secret@rabbit:5672/",
    "CLOUDMATCH_KAFKA_BROKERS": "kafka:9092",
}


def planned(environ: dict[str, str], edges: int = 1, workers: int = 1) -> Plan:
    return make(AllSettings(groups(), environ), edges, workers)


def ports(plan: Plan) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for each in plan.listeners:
        found.setdefault(each.process, []).append(each.port)
    return found


def test_each_process_on_our_own_bus_has_a_name_there_and_an_edge_its_own():
    assert planned({}, edges=2, workers=2).names == {
        "edge.1": "edge-0",
        "edge.2": "edge-1",
        "match-engine.1": "match-engine-0",
        "match-engine.2": "match-engine-1",
        "journal.1": "journal-0",
        "bridge-rabbit.1": "bridge-rabbit-0",
    }
    assert planned({"CLOUDMATCH_EDGE_NAME": "north"}).names["edge.1"] == "north"
    assert planned({"CLOUDMATCH_LOCAL_KEYS": "false"}).names == {}
    assert planned(ENVIRON).names == {}


def test_by_default_everything_starts_once_on_the_documented_ports():
    plan = planned({})
    assert plan.counts == dict.fromkeys(("nats", "rabbitmq", "kafka", *SERVICES), 1)
    assert ports(plan) == {
        "nats.1": [4222, 8222],
        "rabbitmq.1": [5672],
        "kafka.1": [9092],
        "edge.1": [8080],
        "journal.1": [8081],
        "match-engine.1": [8082],
        "bridge-rabbit.1": [8083],
        "analytics.1": [8085],
    }
    assert plan.port_conflict() is None


def test_the_ports_of_edges_and_of_workers_are_ten_apart():
    found = ports(planned({"CLOUDMATCH_EDGE_PORT": "7000"}, edges=3, workers=2))
    assert [found[f"edge.{i}"] for i in (1, 2, 3)] == [[7000], [7010], [7020]]
    assert [found[f"match-engine.{i}"] for i in (1, 2)] == [[8082], [8092]]


def test_a_server_with_a_url_is_not_started_and_shown_without_its_password():
    plan = planned(ENVIRON)
    assert set(plan.counts) == set(SERVICES)
    assert [row.url for row in plan.rows if row.process == "(external)"] == [
        "nats://a:4222,nats://b:4222",
        "amqp://carol:…@rabbit:5672/",
        "kafka:9092",
    ]


def test_two_processes_on_the_same_port_are_named_with_their_settings():
    assert planned({"CLOUDMATCH_JOURNAL_PORT": "8090"}, edges=2).port_conflict() == (
        "journal.1 and edge.2 would both listen on port 8090: "
        "set CLOUDMATCH_JOURNAL_PORT or CLOUDMATCH_EDGE_PORT to another"
    )


def test_a_second_port_of_one_process_like_its_first_is_named_with_both_settings():
    assert planned({"CLOUDMATCH_EDGE_PORT": "80", **LEGACY_PORTS}).port_conflict() == (
        "edge.1 would listen twice on port 80: "
        "set CLOUDMATCH_EDGE_LEGACY_PORT or CLOUDMATCH_EDGE_PORT to another"
    )


def test_the_ports_of_2019_belong_to_the_first_edge_journal_and_analytics():
    plan = planned(dict(LEGACY_PORTS), edges=2, workers=2)
    legacy = {each.process: each for each in plan.listeners if each.legacy}
    assert {name: (each.port, each.variable) for name, each in legacy.items()} == {
        "edge.1": (80, "CLOUDMATCH_EDGE_LEGACY_PORT"),
        "journal.1": (81, "CLOUDMATCH_JOURNAL_LEGACY_PORT"),
        "analytics.1": (85, "CLOUDMATCH_ANALYTICS_LEGACY_PORT"),
    }
    assert legacy["edge.1"].probe == "http://127.0.0.1/system/readiness"
    assert [(row.process, row.purpose, row.url) for row in plan.rows if "2019" in row.purpose] == [
        ("edge.1", "dev client (2019)", "http://127.0.0.1/"),
        ("edge.1", "devices (2019)", "ws://127.0.0.1/device/connect?id=a&lat=52.37&lon=4.89"),
        ("journal.1", "REST (2019)", "http://127.0.0.1:81/schema"),
        ("analytics.1", "live chart (2019)", "http://127.0.0.1:85/"),
        ("analytics.1", "REST (2019)", "http://127.0.0.1:85/schema"),
    ]
    assert plan.port_conflict() is None
    assert plan.counts == planned({}, edges=2, workers=2).counts


def test_the_page_on_port_80_may_read_every_service_and_finds_each_edge_once():
    plan = planned(dict(LEGACY_PORTS), edges=2)
    origins = read(HttpSettings, {"CLOUDMATCH_HTTP_ORIGINS": plan.origins}).allowed_origins
    # browsers leave out the port that the scheme implies
    assert {"http://127.0.0.1", "http://localhost", "http://127.0.0.1:8080"} <= set(origins)
    assert plan.services == planned({}, edges=2).services


def test_a_process_that_listens_on_every_address_is_shown_on_loopback():
    urls = [row.url for row in planned({"CLOUDMATCH_JOURNAL_HOST": "0.0.0.0"}).rows]  # noqa: S104 # a value
    assert "http://127.0.0.1:8081/schema" in urls


def test_the_dev_client_of_every_edge_finds_every_process_and_may_read_it():
    plan = planned({"CLOUDMATCH_EDGE_PORT": "7000", "CLOUDMATCH_JOURNAL_HOST": "::"}, edges=2, workers=2)
    assert read(EdgeSettings, {"CLOUDMATCH_EDGE_SERVICES": plan.services}).places == {
        "match-engine": ["http://127.0.0.1:8082", "http://127.0.0.1:8092"],
        "edge": ["http://127.0.0.1:7000", "http://127.0.0.1:7010"],
        "journal": ["http://127.0.0.1:8081"],
        "bridge-rabbit": ["http://127.0.0.1:8083"],
        "analytics": ["http://127.0.0.1:8085"],
    }
    assert read(HttpSettings, {"CLOUDMATCH_HTTP_ORIGINS": plan.origins}).allowed_origins == [
        *("http://127.0.0.1:7000", "http://localhost:7000", "http://127.0.0.1:7010", "http://localhost:7010")
    ]


def test_edges_with_a_certificate_are_probed_and_shown_with_tls(tmp_path):
    made = trustme.CA().issue_cert("127.0.0.1")
    made.private_key_and_cert_chain_pem.write_to_path(file := tmp_path / "tls.pem")
    environ = {f"CLOUDMATCH_EDGE_TLS_{which}_FILE": str(file) for which in ("CERT", "KEY")}
    plan = planned(environ)
    assert {each.probe.partition(":")[0] for each in plan.listeners if each.probe} == {"http", "https"}
    assert {row.url.partition(":")[0] for row in plan.rows if row.process == "edge.1"} == {"https", "wss"}
    assert "edge=https://127.0.0.1:8080" in plan.services
    assert "https://127.0.0.1:8080" in plan.origins


def test_a_process_that_is_not_ready_is_named_once_with_its_reason():
    waiting = [Listener("nats.1", 1, "A"), Listener("nats.1", 2, "B"), Listener("edge.1", 3, "C")]
    assert describe_waiting(waiting, {"edge.1": "not connected"}) == "nats.1, edge.1 (not connected)"
