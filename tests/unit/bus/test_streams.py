"""What the server keeps is compared with what was asked."""

import pytest
from nats.js.api import ClusterInfo, StorageType, StreamInfo, StreamState

from cloudmatch_bus.contract import streams


@pytest.mark.parametrize("asked", [streams.events, streams.bucket])
def test_what_is_as_asked_has_no_differences(asked: type) -> None:
    assert streams.differences(asked(1), asked(1)) == {}


def test_each_difference_is_named_with_both_sides() -> None:
    got = streams.bucket(1)
    got.storage, got.max_msgs_per_subject = StorageType.FILE, 5
    assert streams.differences(streams.bucket(1), got) == {
        "storage": (StorageType.MEMORY, StorageType.FILE),
        "max_msgs_per_subject": (1, 5),
    }


@pytest.mark.parametrize(
    ("cluster", "replicas", "risky"),
    [
        (ClusterInfo(name="x", leader="a"), 1, True),
        (ClusterInfo(name="x", leader="a"), 3, False),
        (ClusterInfo(leader="a"), 1, False),  # what a server that stands alone says
        (None, 1, False),
    ],
)
def test_one_copy_is_a_risk_where_there_is_a_cluster(
    cluster: ClusterInfo | None, replicas: int, risky: bool
) -> None:
    state = StreamState(messages=0, bytes=0, first_seq=1, last_seq=0, consumer_count=0)
    kept = StreamInfo(config=streams.events(replicas), state=state, cluster=cluster)
    assert (streams.risk(kept) is not None) == risky


def test_what_was_not_asked_and_what_the_server_leaves_out_empty_is_no_difference() -> None:
    asked, got = streams.events(1), streams.events(1)
    asked.description, got.description = None, "anything"
    asked.deny_delete, got.deny_delete = False, None
    assert streams.differences(asked, got) == {}


def test_a_denied_permission_that_the_server_grants_is_a_difference() -> None:
    asked, got = streams.bucket(1), streams.bucket(1)
    got.allow_atomic = False
    assert streams.differences(asked, got) == {"allow_atomic": (True, False)}
