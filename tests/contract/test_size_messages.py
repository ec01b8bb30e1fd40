"""The messages between bridge-rabbit and analytics, as they must be written and read for ever."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cloudmatch_bus.contract.amqp import Encoded, SizeMessage

GOLDEN: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "size_messages.json").read_text(encoding="utf-8")
)


def encoded(sample: dict[str, Any]) -> Encoded:
    return Encoded(
        body=sample["body"].encode(),
        routing_key=sample["routing_key"],
        message_id=sample["message_id"],
        correlation_id=sample["correlation_id"],
        timestamp=datetime.fromisoformat(sample["timestamp"]),
        headers=sample["headers"],
    )


def decode(message: Encoded) -> SizeMessage:
    return SizeMessage.decode(message.body, message.headers, message.message_id, message.timestamp)


@pytest.mark.parametrize("sample", GOLDEN, ids=lambda sample: sample["of"])
def test_a_golden_sample_is_encoded_as_it_is(sample: dict[str, Any]) -> None:
    assert SizeMessage(**sample["message"]).encode() == encoded(sample)


@pytest.mark.parametrize("sample", GOLDEN, ids=lambda sample: sample["of"])
def test_a_golden_sample_is_decoded_as_it_was_encoded(sample: dict[str, Any]) -> None:
    assert decode(encoded(sample)) == SizeMessage(**sample["message"])


@pytest.mark.parametrize("sample", GOLDEN, ids=lambda sample: sample["of"])
def test_headers_of_the_future_are_ignored(sample: dict[str, Any]) -> None:
    message = encoded(sample)
    assert decode(message._replace(headers={**message.headers, "future": 1})) == decode(message)


def test_a_message_of_2019_is_a_body_and_nothing_else() -> None:
    assert SizeMessage.decode(b"4", {}) == SizeMessage(size=4, app="default", sender="", at=None)
