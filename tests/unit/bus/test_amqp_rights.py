"""What each service may do at RabbitMQ."""

import base64
import hashlib
import re

import msgspec
import pytest

from cloudmatch_bus.contract import amqp, amqp_batches, amqp_forgotten, amqp_set_aside
from cloudmatch_bus.contract.amqp_rights import (
    ANALYTICS,
    BRIDGE,
    DEFAULT_EXCHANGE,
    Rights,
    definitions,
    password_hash,
    rights,
)

USERS = rights(["testqueue"], ["in.put"])


def may(user: str, right: str, name: str) -> bool:
    return re.search(getattr(USERS[user], right), name) is not None


@pytest.mark.parametrize("contract", [amqp, amqp_batches, amqp_forgotten])
def test_both_declare_everything_and_only_the_bridge_publishes(contract) -> None:
    for user in (BRIDGE, ANALYTICS):
        for name in (contract.EXCHANGE, contract.QUEUE, contract.DEAD_QUEUE):
            assert may(user, "configure", name)
            assert may(user, "read", name)
        assert may(user, "write", contract.QUEUE)  # to bind it
        assert may(user, "write", contract.DEAD_QUEUE)
    assert may(BRIDGE, "write", contract.EXCHANGE)
    assert not may(ANALYTICS, "write", contract.EXCHANGE)


@pytest.mark.parametrize("right", ["configure", "write", "read"])
def test_only_the_bridge_has_what_was_set_aside_and_each_its_own_plain_queues(right: str) -> None:
    assert may(BRIDGE, right, amqp_set_aside.QUEUE)
    assert not may(ANALYTICS, right, amqp_set_aside.QUEUE)
    assert may(BRIDGE, right, "testqueue")
    assert not may(ANALYTICS, right, "testqueue")
    assert not may(BRIDGE, right, "in.put")
    assert not may(ANALYTICS, right, "in-put")
    for user in (BRIDGE, ANALYTICS):
        assert not may(user, right, "other")
        assert not may(user, right, f"{amqp.QUEUE}.other")


def test_analytics_reads_its_plain_queues_and_does_not_publish_by_the_name_of_a_queue() -> None:
    assert may(ANALYTICS, "configure", "in.put")
    assert may(ANALYTICS, "read", "in.put")
    assert may(BRIDGE, "write", DEFAULT_EXCHANGE)
    assert not may(ANALYTICS, "write", DEFAULT_EXCHANGE)


def test_the_file_has_each_user_with_a_hash_as_rabbitmq_computes_it() -> None:
    hashed = password_hash("pass", b"salt")
    assert base64.b64decode(hashed) == b"salt" + hashlib.sha256(b"saltpass").digest()
    found = msgspec.json.decode(definitions({"a": Rights("c", "w", "r")}, {"a": hashed, "b": "none"}))
    assert [(each["name"], each["password_hash"]) for each in found["users"]] == [
        ("a", hashed),
        ("b", "none"),
    ]
    assert found["permissions"] == [{"user": "a", "vhost": "/", "configure": "c", "write": "w", "read": "r"}]
