"""The server's configuration is compared with the one that was asked for."""

from collections.abc import Callable

import pytest
from nats.js.api import StorageType, StreamConfig

from cloudmatch_bus.client import stream_config


@pytest.mark.parametrize("asked", [stream_config.events, stream_config.bucket])
def test_a_stream_that_is_as_asked_has_no_differences(asked: Callable[[int], StreamConfig]) -> None:
    assert stream_config.differences(asked(1), asked(1)) == {}


def test_each_difference_is_named_with_both_sides() -> None:
    got = stream_config.bucket(1)
    got.storage, got.max_msgs_per_subject = StorageType.FILE, 5
    assert stream_config.differences(stream_config.bucket(1), got) == {
        "storage": (StorageType.MEMORY, StorageType.FILE),
        "max_msgs_per_subject": (1, 5),
    }


def test_fields_not_asked_for_and_fields_the_server_omits_as_empty_are_no_differences() -> None:
    asked, got = stream_config.events(1), stream_config.events(1)
    asked.description, got.description = None, "anything"
    asked.deny_delete, got.deny_delete = False, None
    assert stream_config.differences(asked, got) == {}


def test_a_permission_that_was_asked_for_and_not_granted_is_a_difference() -> None:
    asked, got = stream_config.bucket(1), stream_config.bucket(1)
    got.allow_atomic = False
    assert stream_config.differences(asked, got) == {"allow_atomic": (True, False)}


def test_an_existing_stream_keeps_its_first_sequence_and_its_replicas() -> None:
    asked, got = stream_config.events(3), stream_config.events(1)
    got.first_seq = 7
    assert stream_config.differences(asked, got) == {}
