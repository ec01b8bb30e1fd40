"""In which segments each device is named."""

from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_journal.core.device_index import DeviceIndex


def test_a_device_is_found_in_each_segment_that_names_it_once() -> None:
    index = DeviceIndex()
    index.add(["a", "b", "a"], 0)
    index.add(["a"], 0)
    index.add(["a"], 2)
    assert list(index.segments("a", 0)) == [0, 2]
    assert list(index.segments("b", 0)) == [0]


def test_a_search_from_a_segment_on_skips_older_ones() -> None:
    index = DeviceIndex()
    for segment in range(5):
        index.add(["a"], segment)
    assert list(index.segments("a", 3)) == [3, 4]
    assert list(index.segments("a", 5)) == []


def test_an_unknown_device_is_in_no_segment() -> None:
    assert list(DeviceIndex().segments("z", 0)) == []


def test_dropping_segments_of_some_devices_leaves_the_others() -> None:
    index = DeviceIndex()
    index.add(["a", "b"], 0)
    index.add(["a"], 1)
    index.drop(1, ["a", "z"])
    assert list(index.segments("a", 0)) == [1]
    assert list(index.segments("b", 0)) == [0]


def test_a_device_whose_last_segment_is_dropped_is_forgotten_and_can_return() -> None:
    index = DeviceIndex()
    index.add(["a"], 0)
    index.drop(1)
    assert list(index.segments("a", 0)) == []
    index.add(["a"], 7)
    assert list(index.segments("a", 0)) == [7]


@given(st.lists(st.sets(st.sampled_from("abc")), max_size=20), st.integers(0, 20))
def test_after_a_drop_the_index_has_exactly_the_segments_that_remain(
    named: list[set[str]], first: int
) -> None:
    index = DeviceIndex()
    for segment, devices in enumerate(named):
        index.add(devices, segment)
    index.drop(first)
    for device in "abc":
        expected = [s for s, devices in enumerate(named) if device in devices and s >= first]
        assert list(index.segments(device, 0)) == expected


def test_a_device_has_another_key_in_the_segments_before_one() -> None:
    index = DeviceIndex()
    for segment in (0, 2, 5):
        index.add(["a"], segment)
    index.rename("a", "x", 5)
    assert (list(index.segments("a", 0)), list(index.segments("x", 0))) == ([5], [0, 2])
    index.rename("a", "y", 5)
    assert (list(index.segments("a", 0)), list(index.segments("y", 0))) == ([5], [])
    index.rename("a", "z", 6)
    assert (list(index.segments("a", 0)), list(index.segments("z", 0))) == ([], [5])
    index.rename("a", "z", 6)
    assert list(index.segments("z", 0)) == [5]
