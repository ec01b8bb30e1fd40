"""Payloads that share a message are split as they were joined."""

from itertools import zip_longest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract.payloads import BATCH_BYTES, BATCH_PAYLOADS, Payload, join, pack, sizes_of, split

payload_lists = st.lists(st.tuples(st.booleans(), st.binary(max_size=40)), min_size=1, max_size=100)


@given(payload_lists)
def test_a_shape_tells_the_sizes_of_its_payloads(sent: list[Payload]) -> None:
    assert sizes_of(join(sent)[0]) == [len(data) for _, data in sent]


@given(payload_lists)
def test_a_batch_is_split_into_the_payloads_that_were_joined(sent: list[Payload]) -> None:
    assert split(*join(sent)) == sent


@given(st.lists(st.integers(0, 40_000), max_size=150))
def test_batches_keep_the_order_and_the_limits_and_are_as_full_as_possible(sizes: list[int]) -> None:
    sent = [(True, b"x" * n) for n in sizes]
    packed = pack(sent)
    assert [payload for shape, data, _ in packed for payload in split(shape, data)] == sent
    for (_, data, lengths), after in zip_longest(packed, packed[1:]):
        assert len(data) == sum(lengths)
        assert 1 <= len(lengths) <= BATCH_PAYLOADS
        assert len(lengths) == 1 or len(data) <= BATCH_BYTES
        assert after is None or len(lengths) == BATCH_PAYLOADS or len(data) + after[2][0] > BATCH_BYTES


def test_shapes_are_written_as_documented() -> None:
    assert join([(True, b"ciao")]) == ("t4", b"ciao")
    assert join([(True, "ciào".encode()), (False, b"\x00")]) == ("t5-b1", "ciào".encode() + b"\x00")


@pytest.mark.parametrize("shape", ["", "t", "4", "x4", "t-4", "t4-", "t3", "t5", "t4-b1", "t+4", "t4 ", "t²"])
def test_a_shape_that_is_malformed_or_does_not_fit_is_an_error(shape: str) -> None:
    with pytest.raises(ValueError, match="shape"):
        split(shape, b"ciao")
