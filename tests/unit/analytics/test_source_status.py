"""The status that the source shares with the service."""

from cloudmatch_analytics.source_status import SourceMetrics, SourceStatus


def test_messages_are_counted_by_queue() -> None:
    status = SourceStatus(["own", "old"])
    status.count_ahead(5)
    status.count("own", consumed=3)
    status.count("old", consumed=1, rejected=2, copies=4)
    shown = {
        (sample.name, *sample.labels.values()): sample.value
        for family in SourceMetrics(status).collect()
        for sample in family.samples
    }
    assert shown == {
        ("cloudmatch_analytics_messages_total", "own"): 3,
        ("cloudmatch_analytics_messages_total", "old"): 1,
        ("cloudmatch_analytics_rejected_total", "own"): 0,
        ("cloudmatch_analytics_rejected_total", "old"): 2,
        ("cloudmatch_analytics_copies_total", "own"): 0,
        ("cloudmatch_analytics_copies_total", "old"): 4,
        ("cloudmatch_analytics_ahead_total",): 5,
    }
