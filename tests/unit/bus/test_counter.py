"""Counters that cost as much as an integer are metrics like any other."""

from prometheus_client import REGISTRY

from cloudmatch_bus.process.counter import PlainCounter


def test_the_value_of_a_plain_counter_is_exposed_as_a_total() -> None:
    counter = PlainCounter("cloudmatch_test_plain", "For this test")
    counter.value += 3
    assert REGISTRY.get_sample_value("cloudmatch_test_plain_total") == 3
