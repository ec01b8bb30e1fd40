"""Whether a process is ready, and why not."""

import json

from prometheus_client import Counter

from cloudmatch_bus.process.health import Health, metrics


def test_a_process_whose_checks_give_no_reason_is_ready() -> None:
    health = Health()
    health.set_check("nats", lambda: None)
    assert health.readiness() == (200, b'{"ready":true,"reasons":{}}')


def test_each_reason_is_reported_under_its_check_while_it_holds() -> None:
    health = Health()
    reasons = {"nats": "not connected", "store": "disk full"}
    for name in ("nats", "consumer", "store"):
        health.set_check(name, lambda name=name: reasons.get(name))
    status, body = health.readiness()
    assert status == 503
    assert json.loads(body) == {"ready": False, "reasons": reasons}
    reasons.clear()
    assert health.readiness()[0] == 200


def test_a_check_replaces_the_previous_one_of_its_name() -> None:
    health = Health()
    health.set_check("nats", lambda: "not connected")
    health.set_check("nats", lambda: None)
    assert health.reasons() == {}


def test_a_warning_is_reported_while_it_holds_and_the_process_is_ready() -> None:
    health = Health()
    warnings: dict[str, str] = {"facts": "3 facts wait"}
    health.set_warning("facts", lambda: warnings.get("facts"))
    assert health.readiness() == (200, b'{"ready":true,"reasons":{},"warnings":{"facts":"3 facts wait"}}')
    warnings.clear()
    assert health.readiness() == (200, b'{"ready":true,"reasons":{}}')


def test_metrics_are_prometheus_text() -> None:
    Counter("cloudmatch_test", "For this test")
    assert b"\n# TYPE cloudmatch_test_total counter\n" in metrics()
