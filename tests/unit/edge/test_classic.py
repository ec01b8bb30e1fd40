"""The sentences that clients of 2019 expect, to the byte."""

from cloudmatch_edge.dialects.base import Refuse, Send
from cloudmatch_edge.dialects.classic import Classic

classic = Classic("edge-0")


def test_the_three_sentences() -> None:
    assert classic.connected() == [(True, b"Connected and handled by edge-0")]
    assert classic.matched(5, "c", 1.5, 0) == [(True, b"I matched with device 'c'!")]
    assert classic.heard("a", 0, [(True, b"ciao")]) == [(True, b"device a says: ciao")]


def test_nothing_else_is_told() -> None:
    assert classic.waiting(0) == classic.left("a", "left") == classic.away("a") == classic.back("a") == []
    assert classic.taken(1, ["x"]) == classic.undeliverable(Send([(True, b"")])) == []


def test_binary_payloads_of_other_dialects_are_passed_on_untouched() -> None:
    assert classic.heard("a", 0, [(False, b"\xff\x00")]) == [(False, b"\xff\x00")]


def test_texts_are_payloads_as_they_are() -> None:
    frames = [(True, "ciào 😀".encode()), (True, b"")]
    assert classic.take(frames) == [Send(frames)]


def test_binary_from_a_classic_device_is_refused_with_1003_after_the_texts_before_it() -> None:
    before, refused = classic.take([(True, b"before"), (False, b"\x00"), (True, b"after")])
    assert before == Send([(True, b"before")])
    assert isinstance(refused, Refuse)
    assert refused.code == 1003
