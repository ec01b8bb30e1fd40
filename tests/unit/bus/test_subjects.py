"""Subjects: any id makes one safe token, and what is written is read back."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cloudmatch_bus.contract import payloads, subjects
from cloudmatch_bus.contract.bounds import EXACT
from harness.ids import MAX_ID, ids

numbers = st.integers(0, 1 << 52)


def covers(pattern: str, subject: str) -> bool:
    """Whether NATS delivers `subject` to a subscription of `pattern`."""
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted, given = wanted[:-1], given[: len(wanted) - 1]
    return len(wanted) == len(given) and all(w in ("*", g) for w, g in zip(wanted, given, strict=True))


@given(ids)
def test_any_id_becomes_one_token_without_special_characters_and_back(identifier: str) -> None:
    token = subjects.token(identifier)
    assert re.fullmatch(r"[A-Za-z0-9_=-]+", token)
    assert subjects.untoken(token) == identifier


@given(ids, ids)
def test_different_ids_have_different_tokens(one: str, other: str) -> None:
    assert (subjects.token(one) == subjects.token(other)) == (one == other)


def test_tokens_show_plain_ids_as_they_are() -> None:
    assert subjects.token("dev-42_A") == "dev-42_A"
    assert subjects.token("a.b c*>é=") == "a=2Eb=20c=2A=3E=C3=A9=3D"


def test_partitions_never_change() -> None:
    """Edges and workers of different versions must agree."""
    assert [subjects.partition("default", d) for d in ("a", "b", "c")] == [99, 22, 73]
    assert subjects.up("default", "edge-0", "a") == "cm.v1.default.up.edge-0.99.a"


@given(ids, ids)
def test_partitions_are_in_range(app: str, device: str) -> None:
    assert 0 <= subjects.partition(subjects.token(app), subjects.token(device)) < subjects.PARTITIONS


def test_each_detour_goes_by_another_partition() -> None:
    ways = {subjects.up("default", "edge-0", "a", detour) for detour in range(subjects.PARTITIONS)}
    assert len(ways) == subjects.PARTITIONS


@given(ids, ids, ids, st.integers(1, 1 << 52), st.integers(0, 1 << 40))
def test_reply_addresses_are_read_as_they_were_written(
    app: str, edge: str, device: str, match: int, seq: int
) -> None:
    prefix = subjects.ack_prefix(app, edge, device, match)
    address = subjects.parse_reply(f"{prefix}{seq}.t4-b300")
    assert address is not None
    assert (address.match, address.seq, address.shape, address.prefix) == (match, seq, "t4-b300", prefix)
    assert subjects.untoken(address.device) == device


@pytest.mark.parametrize(
    "other", ["", "_INBOX.x", "cm.v1.a.ack.e.d.x.1.t4", "cm.v1.a.ack.e.d.1.1", "cm.v1.a.dn.e.d.1.1.t4"]
)
def test_any_other_subject_is_no_reply_address(other: str) -> None:
    assert subjects.parse_reply(other) is None


@given(ids, ids, ids, ids, numbers)
def test_an_ack_leads_to_the_device_that_sent_and_to_its_acks_on_another_edge(
    app: str, edge: str, other: str, device: str, match: int
) -> None:
    address = subjects.parse_reply(f"{subjects.ack_prefix(app, edge, device, match)}3.a")
    assert address is not None
    assert subjects.dn_from_ack(address) == subjects.dn(app, edge, device)
    assert subjects.ack_prefix_on(address, other) == subjects.ack_prefix(app, other, device, match)


@given(numbers, numbers, numbers)
def test_the_payload_of_an_ack_is_read_as_it_was_written(delivered: int, connection_id: int, to: int) -> None:
    payload = subjects.ack_payload(delivered, connection_id, to)
    assert subjects.parse_ack(payload) == (delivered, connection_id, to)


@given(numbers, ids, numbers)
def test_a_handover_is_read_as_it_was_written(asker: int, edge: str, asked: int) -> None:
    assert subjects.parse_handover(subjects.handover_payload(asker, edge, asked)) == (asker, edge, asked)


@given(numbers, numbers)
def test_the_reply_to_a_handover_is_read_as_it_was_written(connection_id: int, since: int) -> None:
    payload = subjects.handover_reply_payload(connection_id, since)
    assert subjects.parse_handover_reply(payload) == (connection_id, since)


@pytest.mark.parametrize("payload", [b"", b"1", b"1 2 3 4", b"x y z", b"\xff\xff \xff"])
def test_malformed_payloads_are_none(payload: bytes) -> None:
    assert subjects.parse_ack(payload) is None
    assert subjects.parse_handover(payload) is None
    assert subjects.parse_handover_reply(payload) is None


@given(ids, ids, ids)
def test_the_subject_of_payloads_is_derived_from_that_of_updates(app: str, edge: str, device: str) -> None:
    update = subjects.ctl(app, edge, device)
    assert subjects.dn_from_ctl(update) == subjects.dn(app, edge, device)
    assert subjects.app_and_device(update) == (app, device)


LINE = 4096  # bytes that a server or client of NATS takes before a payload
SID, SIZE = 10**6, 2**20  # larger than any
WIDEST = "\U0010ffff" * MAX_ID


@given(
    ids, st.text("é", min_size=1, max_size=42), ids, ids, st.sampled_from([0, 10, 100, 1000, 1024, 65_535])
)
@example(WIDEST, "é" * 42, WIDEST, WIDEST, 1024)
def test_every_line_fits_with_the_longest_ids_in_every_place(
    app: str, edge: str, device: str, peer: str, size: int
) -> None:
    assert len(subjects.token(edge)) <= subjects.MAX_EDGE
    shapes = [shape for shape, _, _ in payloads.pack([(False, bytes(size))] * payloads.BATCH_PAYLOADS)]
    replies = [f"{subjects.ack_prefix(app, edge, device, 1 << 62)}{1 << 40}.{each}" for each in shapes]
    to = [subjects.up(app, edge, device), subjects.dn(app, edge, peer), subjects.match(app, "cell", device)]
    to += [subjects.ctl(app, edge, device), subjects.ev(app, "deliveries", device)]
    for subject in to:
        for reply in replies:
            assert len(f"HMSG {subject} {SID} {reply} {SIZE} {SIZE}\r\n") <= LINE
            assert len(f"HPUB {reply} {subject} {SIZE} {SIZE}\r\n") <= LINE


def test_an_app_called_ctl_is_an_app_like_any_other() -> None:
    assert subjects.dn_from_ctl(subjects.ctl("ctl", "ctl", "ctl")) == subjects.dn("ctl", "ctl", "ctl")


@given(ids, ids, ids)
def test_app_edge_and_device_are_read_from_the_subject_of_payloads(app: str, edge: str, device: str) -> None:
    a, e, d = map(subjects.token, (app, edge, device))
    assert subjects.parse_up(subjects.up(app, edge, device)) == (a, e, d)
    assert subjects.parse_up(subjects.up_fallback(app, edge, device)) == (a, e, d)
    assert subjects.parse_up(f"cm.v1.{a}.up.99.{d}") == (a, "", d), "of edges of earlier versions"
    assert subjects.parse_up(subjects.probe("edge-0")) is None


APP, EDGE, DEVICE = "my app", "edge 0", "a.b"
UP = subjects.up(APP, EDGE, DEVICE)
UP_FALLBACK = subjects.up_fallback(APP, EDGE, DEVICE)
PARTITION = int(UP.split(".")[5])
EARLIER_UP = f"cm.v1.{subjects.token(APP)}.up.{PARTITION}.{subjects.token(DEVICE)}"
MATCH = subjects.match(APP, "cell", DEVICE)
MATCH_BATCH = subjects.match_batch(subjects.match_lane(APP, "cell"), "edge-0")
DN = subjects.dn(APP, EDGE, DEVICE)
ACK = f"{subjects.ack_prefix(APP, EDGE, DEVICE, 7)}3.a"
CTL = subjects.ctl(APP, EDGE, DEVICE)
EV = subjects.ev(APP, "left", DEVICE)
BEAT = subjects.heartbeat("worker", "w 1")
PROBE = subjects.probe(EDGE)
ALL = {
    UP,
    UP_FALLBACK,
    EARLIER_UP,
    MATCH,
    MATCH_BATCH,
    DN,
    ACK,
    CTL,
    EV,
    BEAT,
    PROBE,
    subjects.explain(),
    subjects.cluster(),
}


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([subjects.EVERYTHING], ALL),
        ([subjects.every_up_of(PARTITION)], {UP}),
        ([subjects.every_up_of(PARTITION + 1)], set()),
        ([subjects.every_earlier_up_of(PARTITION)], {EARLIER_UP}),
        ([subjects.every_up_of(subjects.FALLBACK)], {UP_FALLBACK}),
        ([subjects.every_up_from(EDGE)], {UP, UP_FALLBACK}),
        ([subjects.every_up_from("other")], set()),
        ([subjects.every_match()], {MATCH, MATCH_BATCH}),
        ([subjects.every_match_of(int(MATCH.split(".")[4]))], {MATCH}),
        ([subjects.every_match_batch()], {MATCH_BATCH}),
        ([subjects.every_match_batch_of(int(MATCH.split(".")[4]))], {MATCH_BATCH}),
        ([subjects.every_dn(EDGE)], {DN}),
        ([subjects.every_dn("other")], set()),
        ([subjects.every_ack(EDGE)], {ACK}),
        ([subjects.every_ctl(EDGE)], {CTL}),
        ([subjects.every_ev()], {EV}),
        ([subjects.every_ev_of("left")], {EV}),
        ([subjects.every_ev_of("matched")], set()),
        ([subjects.every_heartbeat("worker")], {BEAT}),
        ([subjects.every_heartbeat("edge")], set()),
        ([subjects.every_probe()], {PROBE}),
        (subjects.of_device(DEVICE), {UP, UP_FALLBACK, EARLIER_UP, MATCH, DN, ACK, CTL, EV}),
        (subjects.of_device("b"), set()),
    ],
)
def test_each_pattern_covers_the_subjects_it_is_named_after_and_no_other(
    patterns: list[str], expected: set[str]
) -> None:
    assert {subject for subject in ALL if any(covers(p, subject) for p in patterns)} == expected


def test_a_number_of_ours_is_neither_negative_nor_larger_than_json_knows_exactly() -> None:
    prefix = subjects.ack_prefix(APP, "edge-0", DEVICE, 7)
    largest = subjects.parse_reply(f"{prefix}{EXACT - 1}.t4")
    assert largest is not None
    assert largest.seq == EXACT - 1
    assert subjects.parse_reply(f"{prefix}{EXACT}.t4") is None
    assert subjects.parse_reply(f"{prefix}-1.t4") is None
    assert subjects.parse_reply(f"{subjects.ack_prefix(APP, 'edge-0', DEVICE, -7)}0.t4") is None
    assert subjects.parse_ack(b"1 2 -3") is None
