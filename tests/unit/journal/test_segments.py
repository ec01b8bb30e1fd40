"""The format of the journal's files."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract.deliveries import Claim, span
from cloudmatch_bus.contract.messages import DeviceConnected, PayloadsDelivered
from cloudmatch_journal.core import segments
from cloudmatch_journal.core.erasure import Erasure
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
DATA = segments.encode_lines(DOCUMENTS, after=4)


def test_a_document_converts_back_to_its_fact() -> None:
    for position, fact in (
        (3, PayloadsDelivered(app="x", at=1, match=1, sender="a", receiver="b", sizes=[4, 5])),
        counted(7, SPAN),
        claimed(8, Claim("g", "h", 1, 2, SPAN)),
    ):
        assert segments.to_fact(segments.to_document(position, fact)) == fact


def test_a_line_tells_the_sequence_of_its_fact_where_that_is_not_its_position() -> None:
    fact = segments.to_fact(DOCUMENTS[1])
    document = segments.to_document(20, fact, offset=3)
    data = segments.encode_lines([document, segments.to_document(21, fact)], after=19)
    assert [line.offset for line in segments.read(data, 20).lines] == [3, 0]
    assert segments.to_fact(segments.read(data, 20).documents[0]) == fact
    assert segments.make_seal([document], data, []).offset == 3
    assert segments.plain(data.splitlines()[0]) == msgspec.json.encode(document)


def test_a_batch_is_one_line_of_json_and_stays_undecoded_in_memory() -> None:
    document = DOCUMENTS[2]
    line = (
        b'{"crc":"500ba8c4","after":6,"position":7,"type":"deliveries","app":"x","at":7,"source":"edge-0","start":1,"number":7,'
        b'"spans":[["a","f",1,0,2,9,"4,5"],["b","",0,0,1,3,"3"]]}\n'
    )
    assert segments.encode_lines([document], after=6) == line
    assert isinstance(document["spans"], msgspec.Raw)
    assert segments.read(line, 7).documents == [document]


def test_a_complete_segment_is_decoded_completely() -> None:
    contents = segments.read(DATA, 5)
    assert contents.documents == DOCUMENTS
    assert contents[1:] == ([], len(DATA))
    assert [(line.position, line.after) for line in contents.found] == [
        (5, 4),
        (6, 5),
        (7, 6),
        (8, 7),
        (9, 8),
    ]


def test_entries_are_the_facts_of_the_documents() -> None:
    assert segments.decode_documents(DATA) == segments.decode_documents(OLD) == DOCUMENTS
    entries = [(d["position"], segments.to_fact(d)) for d in DOCUMENTS]
    assert list(segments.decode_entries(DATA)) == segments.read(DATA, 5).entries == entries


@given(
    st.integers(0, len(DATA)), st.sampled_from([b"", b"\0\0\0", b"{", b"]\n", b"null\n", b'{"a":1}\n{}\n'])
)
def test_what_a_crash_left_incomplete_at_the_end_is_neither_read_nor_damage(cut: int, rubbish: bytes) -> None:
    contents = segments.read(DATA[:cut] + rubbish, 5)
    assert contents.documents == DOCUMENTS[: len(contents.lines)]
    assert len(contents.lines) in (DATA[:cut].count(b"\n"), DATA[:cut].count(b"\n") + 1)
    assert contents.size <= cut + 1
    assert [part for part in contents.damaged if part.size > 1] == []


OLD = b"".join(msgspec.json.encode(document) + b"\n" for document in DOCUMENTS)


def test_a_segment_of_an_earlier_version_is_read() -> None:
    contents = segments.read(OLD, 5)
    assert [line[:3] for line in contents.found] == [
        (d["position"], None, line) for d, line in zip(DOCUMENTS, OLD.splitlines(), strict=True)
    ]
    assert contents[1:] == ([], len(OLD))
    assert contents.documents == DOCUMENTS
    mixed = OLD + segments.encode_lines([{**DOCUMENTS[0], "position": 10}], after=9)
    assert [(line.position, line.after) for line in segments.read(mixed, 5).lines][-2:] == [
        (9, None),
        (10, 9),
    ]
    assert segments.read(mixed, 5).holes(4) == []


@pytest.mark.parametrize(
    "line", [b"{}", b'{"position":"5"}', b'{"position":10}', b"[]", b"\xff", b'{"position":5', b""]
)
@pytest.mark.parametrize("data", [DATA, OLD])
def test_what_is_no_line_is_skipped_and_everything_whole_behind_it_is_read(data: bytes, line: bytes) -> None:
    lines = data.splitlines(keepends=True)
    contents = segments.read(b"".join([*lines[:2], line, b"\n", *lines[2:]]), 5)
    assert contents.documents == DOCUMENTS
    assert contents.damaged == [(len(lines[0] + lines[1]), len(line) + 1, 6)]
    assert contents.holes(4) == []


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_of_a_segment_with_any_byte_changed_everything_else_is_read(at: int, by: int) -> None:
    contents = segments.read(DATA[:at] + bytes([DATA[at] ^ by]) + DATA[at + 1 :], 5)
    hit = DATA[:at].count(b"\n")  # number of the line
    assert {line.position for line in contents.lines} >= {d["position"] for d in DOCUMENTS} - {5 + hit}
    for document in contents.documents:
        assert document in DOCUMENTS
    if len(contents.lines) == len(DOCUMENTS):
        assert contents.damaged  # it was the newline
    elif hit < len(DOCUMENTS) - 1:
        assert contents.damaged
        assert contents.holes(4) == [(4 + hit, 6 + hit)]


def test_another_byte_in_place_of_a_newline_costs_no_line() -> None:
    ends = [at for at, byte in enumerate(DATA) if byte == ord("\n")]
    for number, at in enumerate(ends):
        contents = segments.read(DATA[:at] + b"x" + DATA[at + 1 :], 5)
        assert contents.documents == DOCUMENTS
        assert contents.damaged == [(at, 1, 5 + number)]


def test_lines_in_disorder_or_twice_are_read_in_order_and_once() -> None:
    one, two, three, *rest = DATA.splitlines(keepends=True)
    for data, faults in (
        ((one, three, two, *rest), 1),
        ((one, two, two, three, *rest), 1),
        ((one, two, three, *rest), 0),
    ):
        contents = segments.read(b"".join(data), 5)
        assert (contents.documents, contents.damaged, contents.faults) == (DOCUMENTS, [], faults)


def test_a_line_of_another_segment_is_damage() -> None:
    other = segments.encode_lines(
        [{**DOCUMENTS[0], "position": 3}, {**DOCUMENTS[0], "position": 12}], after=2
    )
    assert [part.after for part in segments.read(DATA + other + DATA, 5, 9).damaged] == [9, 9]


def test_missing_lines_leave_a_hole() -> None:
    lines = DATA.splitlines(keepends=True)
    contents = segments.read(lines[1] + lines[4], 5)
    assert contents.holes(4) == [(4, 6), (6, 9)]
    assert contents.holes(0) == [(6, 9)]


def test_a_line_without_what_protects_it_is_its_document() -> None:
    for data in (DATA, OLD):
        for line, document in zip(segments.read(data, 5).lines, DOCUMENTS, strict=True):
            assert segments.plain(line.data) == msgspec.json.encode(document)


def test_a_fact_of_a_later_version_is_skipped() -> None:
    later = {**DOCUMENTS[0], "position": 10, "type": "unheard-of"}
    data = DATA + segments.encode_lines([later], after=9)
    assert list(segments.decode_entries(data)) == [(d["position"], segments.to_fact(d)) for d in DOCUMENTS]


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
    assert segments.decode_seal(saved) == seal


@given(st.data())
def test_a_changed_or_cut_seal_is_not_read(data: st.DataObject) -> None:
    seal = segments.make_seal(DOCUMENTS, DATA, ["one", "other"])
    saved = segments.encode_seal(seal)
    assert segments.decode_seal(saved) == seal
    at, by = data.draw(st.integers(0, len(saved) - 1)), data.draw(st.integers(1, 255))
    assert segments.decode_seal(saved[:at] + bytes([saved[at] ^ by]) + saved[at + 1 :]) is None
    assert segments.decode_seal(saved[:at]) is None


def test_no_fact_has_a_field_that_is_a_line_s_own() -> None:
    assert not segments._OWN & segments._FIELDS  # a new fact must not


ERASURES = [Erasure(app="x", device="a", position=8), Erasure(app="x", device="é\n\u2028", position=5)]


def test_a_device_is_erased_from_its_lines_and_every_other_byte_stays() -> None:
    damaged = b"\0 what a disk made of a\n"
    lines = DATA.splitlines(keepends=True)
    data = segments.erase(damaged + DATA, 5, 9, ERASURES)
    kept = data.splitlines(keepends=True)
    assert kept[0] == damaged
    assert [one == two for one, two in zip(lines, kept[1:], strict=True)] == [*[False] * 4, True]
    contents = segments.read(data, 5, 9)
    assert [(line.position, line.after) for line in contents.lines] == [(at, at - 1) for at in range(5, 10)]
    assert len(contents.damaged) == 1
    named = {key for key in segments.keys(contents.documents) if '"x"' in key}
    assert named == {f'["x","{each}"]' for each in ("forgotten-8", "forgotten-5", *"bfgh")}
    assert segments.erase(data, 5, 9, ERASURES) == data


def test_a_device_is_erased_from_lines_of_an_earlier_version_but_not_from_another_segments() -> None:
    old = b"".join(segments.plain(line) + b"\n" for line in DATA.splitlines())
    kept = segments.erase(old, 5, 9, ERASURES)
    assert b'"a"' not in kept.replace(old.splitlines()[-1], b"")
    assert [line.after for line in segments.read(kept, 5, 9).lines] == [None] * 5
    assert segments.erase(DATA, 10, 12, ERASURES) == DATA
