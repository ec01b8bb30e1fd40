"""Frames that share a message come apart as they were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.frames import BATCH_BYTES, BATCH_FRAMES, Frame, batches, join, split

frames = st.lists(st.tuples(st.booleans(), st.binary(max_size=40)), min_size=1, max_size=100)


@given(frames)
def test_what_is_joined_is_split_again(sent: list[Frame]) -> None:
    assert split(*join(sent)) == sent


@given(st.lists(st.integers(0, 40_000), max_size=150))
def test_batches_keep_order_and_limits(sizes: list[int]) -> None:
    sent = [(True, b"x" * n) for n in sizes]
    made = batches(sent)
    assert [f for batch in made for f in batch] == sent
    for batch in made:
        assert 1 <= len(batch) <= BATCH_FRAMES
        assert len(batch) == 1 or sum(len(data) for _, data in batch) <= BATCH_BYTES


def test_shapes_read_as_documented() -> None:
    assert join([(True, b"ciao")]) == ("t4", b"ciao")
    assert join([(True, "ciào".encode()), (False, b"\x00")]) == ("t5-b1", "ciào".encode() + b"\x00")


@pytest.mark.parametrize("shape", ["", "t", "4", "x4", "t-4", "t4-", "t3", "t5", "t4-b1", "t+4", "t4 ", "t²"])
def test_a_shape_that_does_not_fit_is_refused(shape: str) -> None:
    with pytest.raises(ValueError, match="shape"):
        split(shape, b"ciao")
