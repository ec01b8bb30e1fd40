"""The classic dialect: the sentences of 2019, to the byte."""

from cloudmatch_edge.dialects.base import Close, Send
from cloudmatch_edge.dialects.classic import Classic

classic = Classic("edge-0")


def test_the_three_sentences() -> None:
    assert classic.connected() == [(True, b"Connected and handled by edge-0")]
    assert classic.matched(5, "c", 1.5, 0) == [(True, b"I matched with device 'c'!")]
    assert classic.payloads("a", 0, [(True, b"ciao")]) == [(True, b"device a says: ciao")]


def test_nothing_else_is_announced() -> None:
    assert (
        classic.waiting(0)
        == classic.peer_left("a", "left")
        == classic.peer_away("a")
        == classic.peer_back("a")
        == []
    )
    assert classic.delivered(1, ["x"]) == classic.undeliverable(Send([(True, b"")])) == []
    assert classic.resumed(5, "a", 1, 2) == classic.gap(0, 1, "lost") == classic.rate_limited() == []
    assert classic.false_count(2, 1) == classic.denied("forbidden", "") == []
    assert classic.token_expires(60) == classic.renewed(1.0) == []


def test_binary_payloads_of_other_dialects_are_passed_on_untouched() -> None:
    assert classic.payloads("a", 0, [(False, b"\xff\x00")]) == [(False, b"\xff\x00")]


def test_texts_are_payloads_as_they_are() -> None:
    frames = [(True, "ciào 😀".encode()), (True, b"")]
    assert classic.parse(frames) == [Send(frames)]


def test_binary_from_a_classic_device_is_refused_with_1003_after_the_texts_before_it() -> None:
    before, refused = classic.parse([(True, b"before"), (False, b"\x00"), (True, b"after")])
    assert before == Send([(True, b"before")])
    assert isinstance(refused, Close)
    assert refused.code.code == 1003
