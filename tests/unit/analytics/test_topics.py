"""Topics with another number of partitions than the setting."""

from cloudmatch_analytics.topics import CHANGELOG, RESULTS, SIZES, describe_mismatch


def test_the_error_names_the_setting_the_topics_and_what_to_do() -> None:
    error = describe_mismatch(SIZES, 4, 32)
    assert error.startswith(f"CLOUDMATCH_ANALYTICS_PARTITIONS=32, but topic {SIZES} has 4 partitions.")
    assert "Set CLOUDMATCH_ANALYTICS_PARTITIONS=4" in error
    assert "--alter --partitions 32" in error
    assert all(topic in error for topic in (SIZES, RESULTS, CHANGELOG))


def test_the_error_offers_no_way_to_fewer_partitions_as_kafka_has_none() -> None:
    assert describe_mismatch(SIZES, 32, 4).endswith("Set CLOUDMATCH_ANALYTICS_PARTITIONS=32")
