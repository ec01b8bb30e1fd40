"""What a tracer shows, and of which messages."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cloudmatch_bus.contract import messages, subjects
from cloudmatch_bus.contract.payloads import join
from cloudmatch_bus.tools.trace_format import Interest, TraceLine, clock, lines, raw

FACT = messages.MatchMade(app="demo", at=1, match=7, device="c", peer="a", distance=111.5)


def reply(device: str, seq: int, shape: str) -> str:
    return f"{subjects.ack_prefix('demo', 'edge-0', device, 7)}{seq}.{shape}"


@pytest.mark.parametrize("up", [subjects.up("demo", "a"), subjects.up_fallback("demo", "a")])
def test_a_payload_on_its_way_up_names_its_device_its_match_and_its_number(up: str) -> None:
    assert lines(up, reply("a", 3, "t4"), b"ciao") == [TraceLine("up", "demo/a", "'ciao'", "7", "#3", "t4")]


def test_a_payload_on_its_way_down_names_who_hears_it_and_who_said_it() -> None:
    [line] = lines(subjects.dn("demo", "edge-1", "c"), reply("a", 3, "b2"), b"\x00\xff")
    assert line == TraceLine("dn", "demo/c ← a", "00 ff", "7", "#3", "b2")


def test_payloads_that_travel_together_have_a_line_each() -> None:
    shape, payload = join([(True, "ciào".encode()), (False, b"\x01"), (True, b"")])
    found = lines(subjects.up("demo", "a"), reply("a", 3, shape), payload)
    assert [(each.seq, each.shape, each.said) for each in found] == [
        ("#3", "t5 of 3", "'ciào'"),
        ("#4", "b1 of 3", "01"),
        ("#5", "t0 of 3", "''"),
    ]


def test_long_payloads_are_cut_and_their_length_is_told() -> None:
    up = subjects.up("demo", "a")
    [text] = lines(up, reply("a", 0, "t200"), "é".encode() * 100)
    assert text.said == "'" + "é" * 80 + "'… 200 bytes"
    [binary] = lines(up, reply("a", 0, "b300"), b"\xab" * 300)
    assert binary.said == "ab " * 15 + "ab… 300 bytes"


def test_an_ack_tells_how_much_has_arrived() -> None:
    [line] = lines(reply("a", 12, subjects.ACK), "", b"")
    assert line == TraceLine("ack", "demo/a", "the peer has all before #12", "7", "#12")


@pytest.mark.parametrize(
    ("word", "subject"),
    [
        ("match", subjects.match("demo", "cell", "c")),
        ("ctl", subjects.ctl("demo", "edge-0", "c")),
        ("ev", subjects.ev("demo", "matched", "c")),
    ],
)
def test_json_is_shown_as_it_is_and_whole(word: str, subject: str) -> None:
    payload = messages.encode(FACT)
    assert lines(subject, "_INBOX.x", payload) == [TraceLine(word, "demo/c", payload.decode())]


def test_ids_are_shown_as_devices_give_them() -> None:
    [line] = lines(subjects.ctl("my app", "edge-0", "a.b/ç"), "", b"{}")
    assert line.who == "my app/a.b/ç"


def test_what_breaks_the_contract_is_shown_with_what_is_wrong() -> None:
    up = subjects.up("demo", "a")
    assert lines(up, "_INBOX.x", b"ciao")[0].said == "no reply address: 'ciao'"
    assert lines(up, reply("a", 0, "t5"), b"ciao")[0].said.startswith("malformed: shape 't5'")
    assert lines(reply("a", 0, "t4"), "", b"ciao")[0].said == "not an ack: t4 'ciao'"
    assert lines("cm.v1.x", "", b"ciao") == [TraceLine("?", "cm.v1.x", "'ciao'")]


def test_a_line_has_its_columns_in_the_order_of_the_help() -> None:
    [line] = lines(subjects.up("demo", "a"), reply("a", 3, "t4"), b"ciao")
    assert line.columns().split() == ["demo/a", "match", "7", "#3", "t4", "'ciao'"]
    assert TraceLine("ctl", "demo/a", "{}").columns().split() == ["demo/a", "{}"]


def test_raw_shows_subject_reply_address_and_the_whole_payload() -> None:
    up, address = subjects.up("demo", "a b"), reply("a b", 0, "t200")
    assert raw(up, address, b"x" * 200) == f"{up}  {address}  {'x' * 200}"
    assert raw(address, "", b"\xff\x00") == f"{address}  -  ff00"


words = st.sampled_from(["up", "dn", "ctl", "ev", "match", "hb", "x\x1b[2J", "=1B", "=FF"])
token = st.one_of(words, st.text(min_size=1).filter(lambda t: "." not in t))


@given(
    subject=st.lists(token, max_size=7).map(lambda tail: ".".join(["cm", "v1", "app", *tail])),
    shape=st.one_of(st.sampled_from(["t4", "b4", "t1-b3", "a", "t9"]), token),
    payload=st.binary(max_size=200),
)
@example(subject="cm.v1.a.up.1.d", shape="t4", payload=b"\x1b[2J")
@example(subject="cm.v1.a.ctl.e.=1B[2J", shape="t4", payload='"\x9b2J"'.encode())
def test_nothing_that_others_wrote_reaches_the_terminal_unescaped(
    subject: str, shape: str, payload: bytes
) -> None:
    address = f"cm.v1.demo.ack.e.a.7.0.{shape}"
    shown = [raw(subject, address, payload), raw(address, subject, payload)]
    for line in lines(subject, address, payload) + lines(address, subject, payload):
        shown += [line.word, line.columns()]
    assert all(text.isprintable() for text in shown)


def heard(interest: Interest, subject: str, payload: bytes = b"") -> bool:
    """Whether a message would be shown: subscribed to, exactly once, and wanted."""

    def covers(pattern: str) -> bool:
        wanted, given = pattern.split("."), subject.split(".")
        if wanted[-1] == ">":
            wanted, given = wanted[:-1], given[: len(wanted) - 1]
        return len(wanted) == len(given) and all(w in ("*", g) for w, g in zip(wanted, given, strict=True))

    times = sum(map(covers, interest.subjects()))
    assert times <= 1
    return bool(times) and interest.wants(subject, payload)


def test_without_a_wish_everything_is_shown_but_heartbeats() -> None:
    everything = Interest()
    assert heard(everything, subjects.up("demo", "a"))
    assert heard(everything, reply("a", 0, subjects.ACK))
    assert heard(everything, subjects.ev("other", "matched", "c"))
    assert heard(everything, "cm.v1.x")
    assert not heard(everything, subjects.heartbeat("edge", "a"))
    assert heard(Interest("sys"), subjects.heartbeat("edge", "a"))
    assert not heard(Interest(devices=["a"]), subjects.heartbeat("edge", "a"))


def test_an_app_keeps_others_out() -> None:
    assert heard(Interest("my app"), subjects.up("my app", "a"))
    assert not heard(Interest("my app"), subjects.up("demo", "a"))


@pytest.mark.parametrize("devices", [["a"], ["c", "a"], ["a", "a"]])
def test_a_device_is_followed_through_all_it_says_and_hears(devices: list[str]) -> None:
    interest = Interest("demo", devices)
    for subject in (
        subjects.up("demo", "a"),
        subjects.up_fallback("demo", "a"),
        subjects.dn("demo", "edge-0", "a"),
        reply("a", 0, subjects.ACK),
        subjects.match("demo", "cell", "a"),
        subjects.ctl("demo", "edge-0", "a"),
        subjects.ev("demo", "connected", "a"),
    ):
        assert heard(interest, subject), subject
        assert not heard(Interest("demo", ["b"]), subject), subject


def test_facts_of_a_device_include_those_that_are_told_of_its_peer() -> None:
    subject, payload = subjects.ev("demo", "matched", "c"), messages.encode(FACT)
    for devices, shown in (((), True), (("c",), True), (("a",), True), (("b",), False)):
        assert heard(Interest("", devices, facts_only=True), subject, payload) == shown
    assert not heard(Interest("", ["c"], facts_only=True), subject, b"no fact")
    assert not heard(Interest(facts_only=True), subjects.up("demo", "a"))


def test_the_time_of_day_has_milliseconds() -> None:
    assert clock(datetime(2026, 1, 2, 3, 4, 5, 67_999, timezone(timedelta(hours=1)))) == "03:04:05.067"
