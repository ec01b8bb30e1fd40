"""Which user may publish and subscribe to which subjects."""

from pathlib import Path

import pytest

from cloudmatch_bus.contract import permissions, subjects
from cloudmatch_bus.contract.permissions import USERS

ROOT = Path(__file__).parents[3]


def may(patterns: tuple[str, ...], subject: str) -> bool:
    """Whether one of these patterns, without a queue group, covers a subject."""

    def covers(pattern: list[str], tokens: list[str]) -> bool:
        for p, t in zip(pattern, tokens, strict=False):
            if p == ">":
                return True
            if p not in ("*", t):
                return False
        return len(pattern) == len(tokens)

    return any(covers(p.split("."), subject.split(".")) for p in patterns)


def test_the_servers_file_is_rendered_from_the_table() -> None:
    assert (ROOT / "nats/permissions.conf").read_text() == permissions.configuration()


@pytest.mark.parametrize(
    ("subject", "publishers", "subscribers"),
    [
        (subjects.up("demo", "a"), {"edge"}, {"trace", "operator"}),
        (subjects.up_fallback("demo", "a"), {"edge"}, {"trace", "operator"}),
        (subjects.match("demo", "cell", "a"), {"edge"}, {"trace", "operator"}),
        (subjects.match_batch("cm.v1.demo.match.7", "edge-0"), {"edge"}, {"trace", "operator"}),
        (subjects.dn("demo", "edge-0", "a"), {"match-engine"}, {"edge", "trace", "operator"}),
        (subjects.ctl("demo", "edge-0", "a"), {"match-engine"}, {"edge", "trace", "operator"}),
        (subjects.ack_prefix("demo", "edge-0", "a", 7) + "3.a", {"edge"}, {"edge", "trace", "operator"}),
        (subjects.ev("demo", "delivered", "a"), {"edge"}, {"trace", "operator"}),
        (subjects.ev("demo", "deliveries", "edge-0"), {"edge", "journal"}, {"trace", "operator"}),
        (subjects.ev("demo", "claimed", "edge-0"), {"edge"}, {"trace", "operator"}),
        (subjects.ev("demo", "matched", "a"), {"match-engine"}, {"trace", "operator"}),
        (subjects.ev("demo", "reported", "a"), {"journal"}, {"trace", "operator"}),
        (subjects.explain(), {"operator"}, {"trace", "operator"}),
        (subjects.cluster(), {"operator"}, {"trace", "operator"}),
        ("$KV.match.dev.demo.a", {"match-engine", "operator"}, {"operator"}),
        ("$JS.API.STREAM.DELETE.EVENTS", {"operator"}, set()),
        ("$JS.ACK.EVENTS.bridge-rabbit.1.2.3.4.5", {"bridge-rabbit", "operator"}, set()),
    ],
)
def test_each_subject_is_open_to_the_users_it_concerns_and_to_no_other(
    subject: str, publishers: set[str], subscribers: set[str]
) -> None:
    assert {name for name, rights in USERS.items() if may(rights.publish, subject)} == publishers
    assert {name for name, rights in USERS.items() if may(rights.subscribe, subject)} == subscribers


def test_a_worker_receives_payloads_and_requests_only_in_its_queue_group() -> None:
    allowed = USERS["match-engine"].subscribe
    assert {f"{subjects.all_of(kind)} {subjects.QUEUE_GROUP}" for kind in ("up", "match")} < set(allowed)
    grouped = tuple(each.removesuffix(f" {subjects.QUEUE_GROUP}") for each in allowed)
    for subject in (
        subjects.up("demo", "a"),
        subjects.match("demo", "cell", "a"),
        subjects.explain(),
        subjects.cluster(),
    ):
        assert may(grouped, subject)
        assert not may(allowed, subject)


def test_no_user_can_read_the_replies_to_another() -> None:
    for name in USERS:
        inbox = f"{permissions.inbox(name)}.x"
        assert {n for n, rights in USERS.items() if may(rights.subscribe, inbox)} <= {name}


def test_the_journal_cannot_move_a_consumer_of_the_bridge() -> None:
    for what in ("CREATE", "MSG.NEXT", "DELETE"):
        for durable in ("bridge-rabbit", "bridge-rabbit-singles"):
            assert f"$JS.API.CONSUMER.{what}.EVENTS.{durable}" in USERS["journal"].deny_publish
