"""What other rooms rely on of the streams."""

import pytest

from cloudmatch_bus.contract import streams


@pytest.mark.parametrize(
    ("cluster", "replicas", "warned"),
    [("x", 1, True), ("x", 3, False), ("", 1, False), (None, 1, False)],
)
def test_a_single_replica_is_warned_of_only_in_a_cluster(
    cluster: str | None, replicas: int, warned: bool
) -> None:
    warning = streams.single_replica_warning(cluster, replicas)
    assert (warning is not None) == warned
    assert not warned or "single-replica streams in NATS cluster 'x'" in str(warning)


def test_the_bucket_is_named_as_jetstream_names_key_value_buckets() -> None:
    assert streams.BUCKET_STREAM == "KV_match"
    assert streams.BUCKET_PREFIX == "$KV.match."
