"""Spans of delivered payloads: their sizes as text."""

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


@pytest.mark.parametrize("text", ["-4", "4*-1", "4*0", "4*1000000001", "1000000000000000", f"4*{'9' * 4000}"])
def test_sizes_and_counts_of_no_payloads_are_refused_before_they_are_counted_out(text: str) -> None:
    with pytest.raises(ValueError, match="no run of sizes"):
        list(decode_sizes(text))


def test_a_span_ends_behind_its_last_payload() -> None:
    assert span("a", "c", 7, 3, [4, 5]).end == 5


def test_a_long_run_is_read_payload_by_payload() -> None:
    assert next(Span("a", "c", 7, 0, 10**9, 64 * 10**9, f"64*{10**9}").each_size()) == 64


@given(st.integers(1, 1000), st.integers(0, 10**6))
def test_sizes_of_which_only_the_sum_is_known_are_nearly_equal(payloads: int, total: int) -> None:
    sizes = list(decode_sizes(even_sizes(payloads, total)))
    assert (len(sizes), sum(sizes)) == (payloads, total)
    assert max(sizes) - min(sizes) <= 1


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
