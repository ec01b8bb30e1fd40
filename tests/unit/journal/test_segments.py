"""The form of the journal's files."""

from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract.messages import DeviceConnected, PayloadsDelivered
from cloudmatch_journal.core import segments

DOCUMENTS = [
    segments.document(
        5,
        DeviceConnected(app="x", at=1, device="é\n\u2028", edge="e", connection_id=1, lat=0, lon=0, tag='"'),
    ),
    segments.document(6, PayloadsDelivered(app="x", at=1, match=1, sender="a", receiver="b", sizes=[4, 5])),
    segments.document(9, PayloadsDelivered(app="y", at=2, match=1, sender="a", receiver="b", sizes=[])),
]
DATA = segments.lines(DOCUMENTS)


def test_a_document_gives_back_its_fact() -> None:
    fact = PayloadsDelivered(app="x", at=1, match=1, sender="a", receiver="b", sizes=[4, 5])
    assert segments.fact(segments.document(3, fact)) == fact


def test_a_whole_segment_reads_back_whole() -> None:
    assert segments.whole(DATA) == (DOCUMENTS, len(DATA))


def test_the_quick_way_of_reading_gives_the_same() -> None:
    assert list(segments.entries(DATA)) == [(d["position"], segments.fact(d)) for d in DOCUMENTS]


@given(
    st.integers(0, len(DATA)), st.sampled_from([b"", b"\0\0\0", b"{", b"]\n", b"null\n", b'{"a":1}\n{}\n'])
)
def test_what_a_crash_left_half_written_is_told_from_what_is_whole(cut: int, rubbish: bytes) -> None:
    documents, good = segments.whole(DATA[:cut] + rubbish)
    count = DATA[:cut].count(b"\n")
    assert documents == DOCUMENTS[:count]
    assert good == len(segments.lines(DOCUMENTS[:count]))


def test_a_segment_is_named_by_its_first_position() -> None:
    assert segments.first_position(segments.segment_name(1795528339602417)) == 1795528339602417
    assert segments.first_position("state.json") is None
    assert segments.first_position(segments.seal_name(1)) is None


def test_names_of_segments_sort_like_their_positions() -> None:
    names = [segments.segment_name(first) for first in (1, 9, 10, 1795528339602417)]
    assert names == sorted(names)


def test_a_seal_says_what_is_in_the_segment() -> None:
    seal = segments.seal(DOCUMENTS, DATA)
    assert (seal.first, seal.last, seal.count, seal.size) == (5, 9, 3, len(DATA))
    assert seal.newest == 2
    assert seal.devices == {segments.name("x", d) for d in ("a", "b", "é\n\u2028")} | {
        segments.name("y", "a"),
        segments.name("y", "b"),
    }


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_a_seal_notices_any_changed_byte(at: int, by: int) -> None:
    seal = segments.seal(DOCUMENTS, DATA)
    assert segments.intact(DATA, seal)
    assert not segments.intact(DATA[:at] + bytes([DATA[at] ^ by]) + DATA[at + 1 :], seal)


def test_names_of_devices_cannot_be_mistaken_for_one_another() -> None:
    assert segments.name("a", "b/c") != segments.name("a/b", "c")
    assert segments.name('a","b', "c") != segments.name("a", 'b","c')
