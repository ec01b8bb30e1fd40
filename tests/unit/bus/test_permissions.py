"""Which role may publish and subscribe to which subjects."""

from typing import Any

import pytest

from cloudmatch_bus.contract import permissions, streams, subjects
from cloudmatch_bus.contract.permissions import NAME, ROLES


def may(patterns: tuple[str, ...], subject: str, name: str = "edge-0") -> bool:
    """Whether one of these patterns, without a queue group, covers a subject for the process `name`."""

    def covers(pattern: list[str], tokens: list[str]) -> bool:
        for p, t in zip(pattern, tokens, strict=False):
            if p == ">":
                return True
            if p not in ("*", t):
                return False
        return len(pattern) == len(tokens)

    return any(covers(p.replace(NAME, name).split("."), subject.split(".")) for p in patterns)


@pytest.mark.parametrize(
    ("subject", "publishers", "subscribers"),
    [
        (subjects.up("demo", "edge-0", "a"), {"edge"}, {"trace", "operator"}),
        (subjects.up_fallback("demo", "edge-0", "a"), {"edge"}, {"trace", "operator"}),
        (subjects.match("demo", "cell", "a"), set(), {"trace", "operator"}),
        (subjects.match_batch("cm.v1.demo.match.7", "edge-0"), {"edge"}, {"trace", "operator"}),
        (subjects.dn("demo", "edge-0", "a"), {"match-engine"}, {"edge", "trace", "operator"}),
        (subjects.ctl("demo", "edge-0", "a"), {"match-engine"}, {"edge", "trace", "operator"}),
        (subjects.ack_prefix("demo", "edge-0", "a", 7) + "3.a", {"edge"}, {"edge", "trace", "operator"}),
        (subjects.ev("demo", "delivered", "a"), {"edge"}, {"trace", "operator"}),
        (subjects.ev("demo", "deliveries", "edge-0"), {"edge"}, {"trace", "operator"}),
        (subjects.ev("demo", "deliveries", "journal"), {"journal"}, {"trace", "operator"}),
        (subjects.ev("demo", "lost", "journal"), {"journal"}, {"trace", "operator"}),
        (subjects.ev("demo", "claimed", "edge-0"), {"edge"}, {"trace", "operator"}),
        (subjects.ev("demo", "matched", "a"), {"match-engine"}, {"trace", "operator"}),
        (subjects.ev("demo", "reported", "a"), {"journal"}, {"trace", "operator"}),
        (subjects.heartbeat("edge", "edge-0"), {"edge"}, {"edge", "match-engine", "trace", "operator"}),
        (subjects.heartbeat("worker", "edge-0"), {"match-engine"}, {"match-engine", "trace", "operator"}),
        (subjects.probe("edge-0"), {"match-engine"}, {"edge", "trace", "operator"}),
        (subjects.explain(), {"operator"}, {"trace", "operator"}),
        (subjects.cluster(), {"operator"}, {"trace", "operator"}),
        (subjects.devices(), {"operator"}, {"trace", "operator"}),
        (subjects.device(), {"operator"}, {"trace", "operator"}),
        ("$KV.match.dev.demo.a", {"match-engine", "operator"}, {"operator"}),
        ("$JS.API.STREAM.DELETE.EVENTS", {"operator"}, set()),
        ("$JS.ACK.EVENTS.bridge-rabbit.1.2.3.4.5", {"bridge-rabbit", "operator"}, set()),
    ],
)
def test_each_subject_is_open_to_the_roles_it_concerns_and_to_no_other(
    subject: str, publishers: set[str], subscribers: set[str]
) -> None:
    assert {name for name, rights in ROLES.items() if may(rights.publish, subject)} == publishers
    assert {name for name, rights in ROLES.items() if may(rights.subscribe, subject)} == subscribers


@pytest.mark.parametrize(
    "subject",
    [
        subjects.up("demo", "edge-1", "a"),
        subjects.up_fallback("demo", "edge-1", "a"),
        "cm.v1.demo.up.99.a",  # of edges of earlier versions
        "cm.v1.demo.up.edge-0.a",  # the same, were an edge's name that of a partition
    ],
)
def test_an_edge_sends_payloads_by_its_own_name_only(subject: str) -> None:
    assert may(ROLES["edge"].publish, subjects.up("demo", "edge-0", "a"))
    assert not may(ROLES["edge"].publish, subject)


def test_edges_of_the_previous_version_may_speak_while_they_are_replaced_and_no_longer() -> None:
    def published(*, rolling: bool) -> Any:
        return permissions.template("edge", rolling=rolling)["pub"]

    assert may(published(rolling=True)["allow"], "cm.v1.demo.up.99.a")
    assert not may(published(rolling=False)["allow"], "cm.v1.demo.up.99.a")
    assert permissions.template("trace", rolling=True) == permissions.template("trace")


def test_a_worker_receives_payloads_and_requests_only_in_its_queue_group() -> None:
    allowed = ROLES["match-engine"].subscribe
    assert {f"{subjects.all_of(kind)} {subjects.QUEUE_GROUP}" for kind in ("up", "match")} < set(allowed)
    grouped = tuple(each.removesuffix(f" {subjects.QUEUE_GROUP}") for each in allowed)
    for subject in (
        subjects.up("demo", "edge-0", "a"),
        subjects.match("demo", "cell", "a"),
        subjects.explain(),
        subjects.cluster(),
        subjects.devices(),
        subjects.device(),
    ):
        assert may(grouped, subject)
        assert not may(allowed, subject)


@pytest.mark.parametrize(
    "subject",
    [
        subjects.dn("demo", "edge-1", "a"),
        subjects.ctl("demo", "edge-1", "a"),
        subjects.ack_prefix("demo", "edge-1", "a", 7) + "3.a",
        subjects.probe("edge-1"),
        subjects.heartbeat("edge", "edge-1"),
        f"{permissions.inbox('edge', 'edge-1')}.x",
        f"{permissions.inbox('match-engine', 'w')}.{permissions.PROBES}.x",
    ],
)
def test_an_edge_hears_nothing_of_another(subject: str) -> None:
    assert not may(ROLES["edge"].subscribe, subject)


@pytest.mark.parametrize(
    "subject",
    [
        subjects.heartbeat("edge", "edge-1"),
        subjects.match_batch("cm.v1.demo.match.7", "edge-1"),
        subjects.ev("demo", "deliveries", "edge-1"),
        subjects.ev("demo", "claimed", "edge-1"),
        f"{permissions.inbox('edge', 'edge-1')}.x",
        f"{permissions.inbox('match-engine', 'w')}.x",
        f"{permissions.inbox('match-engine', 'w')}.x.y",
    ],
)
def test_an_edge_says_nothing_as_another_and_answers_nothing_but_probes(subject: str) -> None:
    assert not may(ROLES["edge"].publish, subject)
    assert may(ROLES["edge"].publish, f"{permissions.inbox('match-engine', 'w')}.{permissions.PROBES}.x")


def test_a_worker_says_only_its_own_heartbeats_whatever_follows_its_name() -> None:
    allowed = ROLES["match-engine"].publish
    assert may(allowed, subjects.heartbeat("worker", "w-0/17-123"), "w-0")
    assert may(allowed, subjects.heartbeat("worker", "w/0/17-123"), subjects.token("w/0"))
    assert not may(allowed, subjects.heartbeat("worker", "w-1/17-123"), "w-0")
    assert not may(allowed, subjects.heartbeat("worker", "w-0/2"), "w")


def test_no_role_can_read_the_replies_to_another() -> None:
    for role in ROLES:
        inbox = f"{permissions.inbox(role, 'x')}.y"
        readers = {each for each, rights in ROLES.items() if may(rights.subscribe, inbox, "x")}
        assert readers == {role}


def test_only_match_engine_and_no_other_service_may_provision() -> None:
    assert [role for role in permissions.SERVICES if permissions.may_provision(role)] == ["match-engine"]


def test_a_template_has_all_rights_and_denies_everything_where_there_are_none() -> None:
    for role, rights in ROLES.items():
        claims = permissions.template(role)
        assert claims["sub"] == {"allow": rights.subscribe}
        assert claims["pub"] == ({"allow": rights.publish} if rights.publish else {"deny": [">"]})
        mixed = any(NAME in each for each in rights.subscribe) and any(" " in e for e in rights.subscribe)
        assert not mixed, "NATS ignores queue groups beside a name"


def test_the_journal_makes_and_moves_no_consumer() -> None:
    for what in ("CREATE", "DURABLE.CREATE", "INFO", "MSG.NEXT", "DELETE"):
        for consumer in ("journal", *streams.DURABLE_CONSUMERS, streams.SINGLES):
            assert not may(ROLES["journal"].publish, f"$JS.API.CONSUMER.{what}.EVENTS.{consumer}")
    assert not may(ROLES["journal"].publish, "$JS.API.CONSUMER.CREATE.EVENTS")
    assert may(ROLES["journal"].publish, "$JS.API.DIRECT.GET.EVENTS")
