"""Subjects: any id makes one safe token, and what is written is read back."""

import re

from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract import subjects

ids = st.text(min_size=1, max_size=64)


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
    assert subjects.up("default", "a") == "cm.v1.default.up.99.a"


@given(ids, ids)
def test_partitions_are_in_range(app: str, device: str) -> None:
    assert 0 <= subjects.partition(subjects.token(app), subjects.token(device)) < subjects.PARTITIONS


@given(ids, ids, ids, st.integers(1, 1 << 52), st.integers(0, 1 << 40))
def test_reply_addresses_are_read_as_they_were_written(
    app: str, edge: str, device: str, match: int, seq: int
) -> None:
    prefix = subjects.ack_prefix(app, edge, device, match)
    address = subjects.parse_reply(f"{prefix}{seq}.t4-b300")
    assert address is not None
    assert (address.match, address.seq, address.shape, address.prefix) == (match, seq, "t4-b300", prefix)
    assert subjects.untoken(address.device) == device


def test_what_is_no_reply_address_is_told_apart() -> None:
    for other in ("", "_INBOX.x", "cm.v1.a.ack.e.d.x.1.t4", "cm.v1.a.ack.e.d.1.1", "cm.v1.a.dn.e.d.1.1.t4"):
        assert subjects.parse_reply(other) is None


@given(ids, ids, ids)
def test_the_subject_of_frames_is_derived_from_that_of_news(app: str, edge: str, device: str) -> None:
    news = subjects.ctl(app, edge, device)
    assert subjects.dn_from_ctl(news) == subjects.dn(app, edge, device)
    assert subjects.app_and_device(news) == (app, device)


def test_an_app_called_ctl_confuses_nobody() -> None:
    assert subjects.dn_from_ctl(subjects.ctl("ctl", "ctl", "ctl")) == subjects.dn("ctl", "ctl", "ctl")
