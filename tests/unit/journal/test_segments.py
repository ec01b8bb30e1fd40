"""The format of the journal's files."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract.deliveries import Claim, span
from cloudmatch_bus.contract.messages import DeviceConnected, PayloadsDelivered
from cloudmatch_journal.core import segments
from unit.journal.samples import claimed, counted

SPAN = span("a", "f", 1, 0, [4, 5])

DOCUMENTS = [
    segments.to_document(
        5,
        DeviceConnected(app="x", at=1, device="é\n\u2028", edge="e", connection_id=1, lat=0, lon=0, tag='"'),
    ),
    segments.to_document(
        6, PayloadsDelivered(app="x", at=1, match=1, sender="a", receiver="b", sizes=[4, 5])
    ),
    segments.to_document(*counted(7, SPAN, span("b", "", 0, 0, [3]), app="x")),
    segments.to_document(*claimed(8, Claim("g", "h", 1, 2, SPAN), Claim("g", "a", 1, 2), app="x")),
    segments.to_document(9, PayloadsDelivered(app="y", at=2, match=1, sender="a", receiver="b", sizes=[])),
]
DATA = segments.encode_lines(DOCUMENTS)


def test_a_document_converts_back_to_its_fact() -> None:
    for position, fact in (
        (3, PayloadsDelivered(app="x", at=1, match=1, sender="a", receiver="b", sizes=[4, 5])),
        counted(7, SPAN),
        claimed(8, Claim("g", "h", 1, 2, SPAN)),
    ):
        assert segments.to_fact(segments.to_document(position, fact)) == fact


def test_a_batch_is_one_line_of_json_and_stays_undecoded_in_memory() -> None:
    document = DOCUMENTS[2]
    line = (
        b'{"position":7,"type":"deliveries","app":"x","at":7,"source":"edge-0","start":1,"number":7,'
        b'"spans":[["a","f",1,0,2,9,"4,5"],["b","",0,0,1,3,"3"]]}\n'
    )
    assert segments.encode_lines([document]) == line
    assert isinstance(document["spans"], msgspec.Raw)
    assert segments.complete_lines(line) == ([document], len(line))


def test_a_complete_segment_is_decoded_completely() -> None:
    assert segments.complete_lines(DATA) == (DOCUMENTS, len(DATA))


def test_entries_are_the_facts_of_the_documents() -> None:
    assert list(segments.decode_entries(DATA)) == [(d["position"], segments.to_fact(d)) for d in DOCUMENTS]


@given(
    st.integers(0, len(DATA)), st.sampled_from([b"", b"\0\0\0", b"{", b"]\n", b"null\n", b'{"a":1}\n{}\n'])
)
def test_a_line_that_a_crash_left_incomplete_is_not_decoded(cut: int, rubbish: bytes) -> None:
    documents, size = segments.complete_lines(DATA[:cut] + rubbish)
    count = DATA[:cut].count(b"\n")
    assert documents == DOCUMENTS[:count]
    assert size == len(segments.encode_lines(DOCUMENTS[:count]))


@pytest.mark.parametrize("line", [b"{}", b'{"position":"5"}', b"[]", b"\xff", b'{"position":5'])
def test_decoding_ends_before_a_line_that_is_not_a_document(line: bytes) -> None:
    assert segments.complete_lines(DATA + line + b"\n" + DATA) == (DOCUMENTS, len(DATA))


def test_batches_of_deliveries_are_shown_as_events_of_the_older_type() -> None:
    assert set(segments.types("delivered")) == {"delivered", "deliveries"}
    assert segments.types("claimed") == ("claimed",)


def test_a_segment_is_named_after_its_first_position() -> None:
    assert segments.parse_segment_name(segments.segment_name(1795528339602417)) == 1795528339602417
    assert segments.parse_segment_name("state.json") is None
    assert segments.parse_segment_name(segments.seal_name(1)) is None


def test_segment_names_sort_like_their_positions() -> None:
    names = [segments.segment_name(first) for first in (1, 9, 10, 1795528339602417)]
    assert names == sorted(names)


def test_a_seal_describes_the_segment() -> None:
    seal = segments.make_seal(DOCUMENTS, DATA, iter(["one", "other"]))
    assert (seal.first, seal.last, seal.count, seal.size) == (5, 9, 5, len(DATA))
    assert (seal.newest, seal.devices) == (8, {"one", "other"})


def test_the_devices_of_a_fact_are_those_of_its_document() -> None:
    named = [segments.named(segments.to_fact(each)) for each in DOCUMENTS]
    assert named == [segments.devices(each) for each in DOCUMENTS]
    assert named == [{"é\n\u2028"}, {"a", "b"}, {"a", "f", "b"}, {"g", "h", "a"}, {"a", "b"}]


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_a_segment_with_any_byte_changed_does_not_match_its_seal(at: int, by: int) -> None:
    seal = segments.make_seal(DOCUMENTS, DATA, [])
    assert segments.is_intact(DATA, seal)
    assert not segments.is_intact(DATA[:at] + bytes([DATA[at] ^ by]) + DATA[at + 1 :], seal)


def test_different_devices_have_different_keys() -> None:
    assert segments.device_key("a", "b/c") != segments.device_key("a/b", "c")
    assert segments.device_key('a","b', "c") != segments.device_key("a", 'b","c')


def test_a_seal_of_an_older_version_is_still_read() -> None:
    saved = (
        b'{"first":5,"last":9,"count":3,"size":413,"crc32":17,"newest":2,'
        b'"devices":["[\\"x\\",\\"a\\"]","[\\"x\\",\\"b\\"]"]}'
    )
    seal = msgspec.json.decode(saved, type=segments.Seal)
    assert (seal.first, seal.last, seal.count, seal.size, seal.crc32, seal.newest) == (5, 9, 3, 413, 17, 2)
    assert seal.devices == {segments.device_key("x", "a"), segments.device_key("x", "b")}
    assert msgspec.json.decode(msgspec.json.encode(seal), type=segments.Seal) == seal
