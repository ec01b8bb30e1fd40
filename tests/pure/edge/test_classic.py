"""The sentences that clients of 2019 expect, to the byte."""

import pytest

from cloudmatch_bus.frames import Frame
from cloudmatch_edge import classic


def test_the_three_sentences() -> None:
    assert classic.connected("edge-0").data == b"Connected and handled by edge-0"
    assert classic.matched("c").data == b"I matched with device 'c'!"
    assert classic.heard("a", Frame(True, b"ciao")).data == b"device a says: ciao"
    assert all(
        f.text for f in (classic.connected("e"), classic.matched("c"), classic.heard("a", Frame(True, b"")))
    )


def test_binary_payloads_of_other_dialects_are_passed_on_untouched() -> None:
    assert classic.heard("a", Frame(False, b"\xff\x00")) == Frame(False, b"\xff\x00")


def test_texts_are_payloads_as_they_are() -> None:
    frames = [Frame(True, "ciào 😀".encode()), Frame(True, b"")]
    assert classic.payloads(frames) == frames


def test_binary_from_a_classic_device_is_refused_with_1003_after_the_texts_before_it() -> None:
    with pytest.raises(classic.RefusedError) as refused:
        classic.payloads([Frame(True, b"before"), Frame(False, b"\x00"), Frame(True, b"after")])
    assert refused.value.code == 1003
    assert refused.value.before == [Frame(True, b"before")]
