"""Spans of delivered payloads: their sizes as text, and parts of them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract.deliveries import Span, Totals, decode_sizes, encode_sizes, even_sizes, span

SIZES = st.lists(st.integers(0, 10**6), max_size=50) | st.lists(st.just(64), max_size=50)


@given(SIZES)
def test_sizes_are_decoded_as_they_were_encoded(sizes: list[int]) -> None:
    assert list(decode_sizes(encode_sizes(sizes))) == sizes


@pytest.mark.parametrize(
    ("sizes", "text"), [([], ""), ([4], "4"), ([4, 5], "4,5"), ([64] * 64, "64*64"), ([0, 0], "0*2")]
)
def test_equal_sizes_are_one_run(sizes: list[int], text: str) -> None:
    assert encode_sizes(sizes) == text


@pytest.mark.parametrize("text", ["x", "4,", "4*", "4*x", "*2"])
def test_malformed_sizes_are_refused(text: str) -> None:
    if text == "4*":
        assert list(decode_sizes(text)) == [4]
        return
    with pytest.raises(ValueError, match="invalid literal"):
        list(decode_sizes(text))


@given(st.integers(1, 1000), st.integers(0, 10**6))
def test_sizes_of_which_only_the_sum_is_known_are_nearly_equal(payloads: int, total: int) -> None:
    sizes = list(decode_sizes(even_sizes(payloads, total)))
    assert (len(sizes), sum(sizes)) == (payloads, total)
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30), st.integers(0, 100), st.data())
def test_a_part_of_a_span_has_its_payloads_and_no_others(
    sizes: list[int], first: int, data: st.DataObject
) -> None:
    whole = span("a", "c", 7, first, sizes)
    begin = data.draw(st.integers(first, whole.end - 1))
    end = data.draw(st.integers(begin + 1, whole.end))
    part = whole.part(begin, end)
    assert (part.sender, part.receiver, part.match, part.first, part.end) == ("a", "c", 7, begin, end)
    assert list(part.each_size()) == sizes[begin - first : end - first]
    assert part.bytes == sum(part.each_size())


def test_totals_are_read_without_the_sizes() -> None:
    encoded = msgspec.json.encode(span("a", "c", 7, 3, [4, 5]))
    totals = msgspec.json.decode(encoded, type=Totals)
    assert (totals.first, totals.payloads, totals.bytes, bytes(totals.sizes)) == (3, 2, 9, b'"4,5"')


@pytest.mark.parametrize(
    "array",
    [
        b'["a","c",7,-1,1,4,"4"]',
        b'["a","c",7,0,0,0,""]',
        b'["a","c",7,0,1,-4,"-4"]',
        b'["a","c",7,0,1,4.5,"4"]',
        b'["a","c",7,0,1,1000000000000000,"4"]',
    ],
)
def test_numbers_that_no_payloads_have_are_refused(array: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(array, type=Span)
