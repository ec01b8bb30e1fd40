"""Which messages a tracer shows, and their format."""

from datetime import datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cloudmatch_bus.contract import messages, subjects
from cloudmatch_bus.contract.deliveries import Claim, span
from cloudmatch_bus.contract.payloads import join
from cloudmatch_bus.contract.request_batches import RequestBatch
from cloudmatch_bus.tools.trace_format import TraceFilter, TraceLine, clock, format_lines, format_raw

FACT = messages.MatchMade(app="demo", at=1, match=7, device="c", peer="a", distance=111.5)


COUNTED = messages.DeliveriesCounted(
    app="demo",
    at=1,
    source="edge-0",
    incarnation=5,
    number=1,
    spans=[span("a", "c", 7, 3, [4]), span("c", "a", 7, 0, [10, 2]), span("d", "e", 8, 0, [1] * 99)],
)
CLAIMED = messages.DeliveriesClaimed(
    app="demo",
    at=1,
    source="edge-0",
    incarnation=5,
    number=2,
    claims=[Claim("a", "c", 7, 4, COUNTED.spans[0]), Claim("d", "e", 8, 9)],
)


def reply(device: str, seq: int, shape: str) -> str:
    return f"{subjects.ack_prefix('demo', 'edge-0', device, 7)}{seq}.{shape}"


@pytest.mark.parametrize("up", [subjects.up("demo", "e", "a"), subjects.up_fallback("demo", "e", "a")])
def test_a_payload_on_its_way_up_names_its_device_its_match_and_its_number(up: str) -> None:
    assert format_lines(up, reply("a", 3, "t4"), b"ciao") == [
        TraceLine("up", "demo/a", "'ciao'", "7", "#3", "t4")
    ]


def test_a_payload_on_its_way_down_names_its_receiver_and_its_sender() -> None:
    [line] = format_lines(subjects.dn("demo", "edge-1", "c"), reply("a", 3, "b2"), b"\x00\xff")
    assert line == TraceLine("dn", "demo/c ← a", "00 ff", "7", "#3", "b2")


def test_each_payload_of_a_batch_has_a_line() -> None:
    shape, payload = join([(True, "ciào".encode()), (False, b"\x01"), (True, b"")])
    found = format_lines(subjects.up("demo", "edge-0", "a"), reply("a", 3, shape), payload)
    assert [(each.seq, each.shape, each.content) for each in found] == [
        ("#3", "t5 of 3", "'ciào'"),
        ("#4", "b1 of 3", "01"),
        ("#5", "t0 of 3", "''"),
    ]


def test_long_payloads_are_truncated_and_their_length_is_shown() -> None:
    up = subjects.up("demo", "edge-0", "a")
    [text] = format_lines(up, reply("a", 0, "t200"), "é".encode() * 100)
    assert text.content == "'" + "é" * 80 + "'… 200 bytes"
    [binary] = format_lines(up, reply("a", 0, "b300"), b"\xab" * 300)
    assert binary.content == "ab " * 15 + "ab… 300 bytes"


def test_an_ack_shows_up_to_where_payloads_were_received() -> None:
    [line] = format_lines(reply("a", 12, subjects.ACK), "", b"")
    assert line == TraceLine("ack", "demo/a", "the peer's edge has received all before #12", "7", "#12")


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        ("match", subjects.match("demo", "cell", "c")),
        ("ctl", subjects.ctl("demo", "edge-0", "c")),
        ("ev", subjects.ev("demo", "matched", "c")),
    ],
)
def test_json_is_shown_as_it_is_and_whole(kind: str, subject: str) -> None:
    payload = messages.encode(FACT)
    assert format_lines(subject, "_INBOX.x", payload) == [TraceLine(kind, "demo/c", payload.decode())]


def test_ids_are_shown_unescaped() -> None:
    [line] = format_lines(subjects.ctl("my app", "edge-0", "a.b/ç"), "", b"{}")
    assert line.device == "my app/a.b/ç"


def test_a_message_that_violates_the_contract_is_shown_with_the_violation() -> None:
    up = subjects.up("demo", "edge-0", "a")
    assert format_lines(up, "_INBOX.x", b"ciao")[0].content == "no reply address: 'ciao'"
    assert format_lines(up, reply("a", 0, "t5"), b"ciao")[0].content.startswith("malformed: shape 't5'")
    assert format_lines(reply("a", 0, "t4"), "", b"ciao")[0].content == "not an ack: t4 'ciao'"
    assert format_lines("cm.v1.x", "", b"ciao") == [TraceLine("?", "cm.v1.x", "'ciao'")]


def test_a_line_has_its_columns_in_the_order_of_the_help() -> None:
    [line] = format_lines(subjects.up("demo", "edge-0", "a"), reply("a", 3, "t4"), b"ciao")
    assert line.columns().split() == ["demo/a", "match", "7", "#3", "t4", "'ciao'"]
    assert TraceLine("ctl", "demo/a", "{}").columns().split() == ["demo/a", "{}"]


def test_the_raw_format_shows_subject_reply_address_and_the_whole_payload() -> None:
    up, address = subjects.up("demo", "edge-0", "a b"), reply("a b", 0, "t200")
    assert format_raw(up, address, b"x" * 200) == f"{up}  {address}  {'x' * 200}"
    assert format_raw(address, "", b"\xff\x00") == f"{address}  -  ff00"


kinds = st.sampled_from(["up", "dn", "ctl", "ev", "match", "hb", "x\x1b[2J", "=1B", "=FF"])
token = st.one_of(kinds, st.text(min_size=1).filter(lambda t: "." not in t))


@given(
    subject=st.lists(token, max_size=7).map(lambda tail: ".".join(["cm", "v1", "app", *tail])),
    shape=st.one_of(st.sampled_from(["t4", "b4", "t1-b3", "a", "t9"]), token),
    payload=st.binary(max_size=200),
)
@example(subject="cm.v1.a.up.1.d", shape="t4", payload=b"\x1b[2J")
@example(subject="cm.v1.a.ctl.e.=1B[2J", shape="t4", payload='"\x9b2J"'.encode())
def test_nothing_from_the_bus_reaches_the_terminal_unescaped(
    subject: str, shape: str, payload: bytes
) -> None:
    address = f"cm.v1.demo.ack.e.a.7.0.{shape}"
    printed = [format_raw(subject, address, payload), format_raw(address, subject, payload)]
    for line in format_lines(subject, address, payload) + format_lines(address, subject, payload):
        printed += [line.kind, line.columns()]
    assert all(text.isprintable() for text in printed)


def shown(wanted: TraceFilter, subject: str, payload: bytes = b"") -> bool:
    """Whether a message is shown: on exactly one of the subjects, and matching the filter."""

    def covers(pattern: str) -> bool:
        tokens, given = pattern.split("."), subject.split(".")
        if tokens[-1] == ">":
            tokens, given = tokens[:-1], given[: len(tokens) - 1]
        return len(tokens) == len(given) and all(t in ("*", g) for t, g in zip(tokens, given, strict=True))

    times = sum(wanted.matches(pattern, subject, payload) for pattern in wanted.subjects() if covers(pattern))
    assert times <= 1
    return bool(times)


def test_by_default_everything_but_heartbeats_is_shown() -> None:
    everything = TraceFilter()
    assert shown(everything, subjects.up("demo", "edge-0", "a"))
    assert shown(everything, reply("a", 0, subjects.ACK))
    assert shown(everything, subjects.ev("other", "matched", "c"))
    assert shown(everything, "cm.v1.x")
    assert not shown(everything, subjects.heartbeat("edge", "a"))
    assert shown(TraceFilter("sys"), subjects.heartbeat("edge", "a"))
    assert not shown(TraceFilter(devices=["a"]), subjects.heartbeat("edge", "a"))


def test_a_filter_by_app_hides_other_apps() -> None:
    assert shown(TraceFilter("my app"), subjects.up("my app", "edge-0", "a"))
    assert not shown(TraceFilter("my app"), subjects.up("demo", "edge-0", "a"))


@pytest.mark.parametrize("devices", [["a"], ["c", "a"], ["a", "a"]])
def test_a_filter_by_device_shows_all_messages_of_and_for_it(devices: list[str]) -> None:
    wanted = TraceFilter("demo", devices)
    for subject in (
        subjects.up("demo", "edge-0", "a"),
        subjects.up_fallback("demo", "edge-0", "a"),
        subjects.dn("demo", "edge-0", "a"),
        reply("a", 0, subjects.ACK),
        subjects.match("demo", "cell", "a"),
        subjects.ctl("demo", "edge-0", "a"),
        subjects.ev("demo", "connected", "a"),
    ):
        assert shown(wanted, subject), subject
        assert not shown(TraceFilter("demo", ["b"]), subject), subject


def test_facts_about_a_device_include_those_whose_subject_names_its_peer() -> None:
    subject, payload = subjects.ev("demo", "matched", "c"), messages.encode(FACT)
    for devices, expected in (((), True), (("c",), True), (("a",), True), (("b",), False)):
        assert shown(TraceFilter("", devices, facts_only=True), subject, payload) == expected
    assert not shown(TraceFilter("", ["c"], facts_only=True), subject, b"no fact")
    assert not shown(TraceFilter(facts_only=True), subjects.up("demo", "edge-0", "a"))


@pytest.mark.parametrize(("kind", "fact"), [("deliveries", COUNTED), ("claimed", CLAIMED)])
@pytest.mark.parametrize("edge", ["edge-0", "a"])
def test_facts_about_many_devices_are_shown_for_each_once(
    kind: str, fact: messages.AnyFact, edge: str
) -> None:
    subject, payload = subjects.ev("demo", kind, edge), messages.encode(fact)
    for facts_only in (False, True):
        for devices, expected in (((), True), (("a",), True), (("c", "e"), True), (("b",), False)):
            assert shown(TraceFilter("demo", devices, facts_only), subject, payload) == expected
        assert not shown(TraceFilter("", ["a"], facts_only), subject, b"no fact")


def test_each_direction_that_a_fact_counts_has_a_line() -> None:
    subject = subjects.ev("demo", "deliveries", "edge-0")
    lines = format_lines(subject, "", messages.encode(COUNTED))
    assert lines == [
        TraceLine("ev", "demo/a → c", "1 delivered, 4 bytes by edge-0", "7", "#3"),
        TraceLine("ev", "demo/c → a", "2 delivered, 12 bytes (10,2) by edge-0", "7", "#0"),
        TraceLine("ev", "demo/d → e", "99 delivered, 99 bytes (1*99) by edge-0", "8", "#0"),
    ]
    assert format_lines(subject, "", messages.encode(COUNTED), TraceFilter(devices=["c"])) == lines[:2]
    reported = msgspec.structs.replace(COUNTED, spans=[span("a", "", 0, 0, [*range(99)])])
    [many] = format_lines(subject, "", messages.encode(reported))
    assert many.device == "demo/a → -"
    assert many.content.endswith(",28,29,…) by edge-0")


def test_each_claim_has_a_line() -> None:
    subject = subjects.ev("demo", "claimed", "edge-0")
    assert format_lines(subject, "", messages.encode(CLAIMED)) == [
        TraceLine("ev", "demo/a → c", "claimed: 1 delivered, 4 bytes by edge-0", "7", "#3"),
        TraceLine("ev", "demo/d → e", "claimed: all before delivered by edge-0", "8", "#9"),
    ]
    for payload in (b"no fact", messages.encode(FACT)):
        assert format_lines(subject, "", payload)[0].device == "demo/edge-0"


def test_the_time_of_day_has_milliseconds() -> None:
    assert clock(datetime(2026, 1, 2, 3, 4, 5, 67_999, timezone(timedelta(hours=1)))) == "03:04:05.067"


def test_a_batch_of_requests_is_one_line_for_each_of_the_devices() -> None:
    requests = [
        messages.StepAway(app="demo", device=device, edge="edge-0", connection_id=5) for device in "abc"
    ]
    subject = subjects.match_batch(subjects.match_lane("demo", ""), "edge-0")
    payload = messages.encode(RequestBatch(requests=list(requests)))
    assert shown(TraceFilter(), subject, payload)
    lines = format_lines(subject, "", payload)
    assert [(line.kind, line.device) for line in lines] == [("match", f"demo/{device}") for device in "abc"]
    assert messages.decode_request(lines[1].content.encode()) == requests[1]
    only = TraceFilter(devices=("b",))
    assert shown(only, subject, payload)
    assert format_lines(subject, "", payload, only) == [lines[1]]
    assert format_lines(subject, "", b"\xff") == [TraceLine("match", "demo", "ff")]
