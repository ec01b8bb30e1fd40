"""Dead letters as they are listed."""

from datetime import UTC, datetime
from typing import Any

import pytest

from cloudmatch_bridge_rabbit.core.dead_letter import DeadLetter, original_headers

DIED = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
OWN = {"app": "default", "from": "a", "to": "b", "match": 7, "at": 1}
ADDED = {
    "x-death": [{"count": 2, "reason": "rejected", "time": DIED, "queue": "q"}],
    "x-first-death-reason": "rejected",
    "x-first-death-queue": "q",
    "x-last-death-exchange": "e",
}


def test_a_fact_that_was_set_aside_is_shown_with_the_reason() -> None:
    headers = {
        "consumer": "c",
        "position": 42,
        "subject": "s",
        "reason": "ValueError: x",
        "at": 1_700_000_000_000,
    }
    letter = DeadLetter.parse(None, "cloudmatch.facts.dead", b"{}", headers)
    assert (letter.message_id, letter.routing_key, letter.reason, letter.body) == (
        "42",
        "s",
        "ValueError: x",
        "{}",
    )
    assert letter.died_at == datetime.fromtimestamp(1_700_000_000, UTC)
    assert DeadLetter.parse(None, None, b"", {"consumer": "c"}).died_at is None


def test_a_dead_letter_shows_the_message_and_why_and_how_often_it_was_rejected() -> None:
    assert DeadLetter.parse("5.0", "default.a", b"4", {**OWN, **ADDED}) == DeadLetter(
        "5.0", "default.a", "4", "a", "b", "rejected", DIED, 2
    )


def test_a_message_without_id_headers_or_history_is_shown_with_empty_fields() -> None:
    assert DeadLetter.parse(None, None, b"4", {}) == DeadLetter("", "", "4", "", "", "", None, 0)


def test_a_history_whose_time_is_not_a_time_is_shown_without_one() -> None:
    history = [{"count": 1, "reason": "rejected", "time": "yesterday"}, {"count": 3}]
    letter = DeadLetter.parse("5.0", "default.a", b"4", {"x-death": history})
    assert (letter.died_at, letter.deaths) == (None, 4)


def test_a_body_is_escaped_so_that_it_cannot_control_a_terminal() -> None:
    assert DeadLetter.parse(None, None, b"\x1b[2J\xff", {}).body == r"\x1b[2J\xff"


def test_a_long_body_is_shortened_and_its_length_shown() -> None:
    assert DeadLetter.parse(None, None, b"9" * 1000, {}).body == "9" * 40 + "… 1000 bytes"


def test_the_original_headers_are_all_but_those_that_rabbitmq_added() -> None:
    assert original_headers({**OWN, **ADDED}) == OWN


@pytest.mark.parametrize(
    "headers",
    [
        {"x-death": "yesterday"},
        {"x-death": [5, None]},
        {"x-death": [{"count": "many", "time": 5, "reason": b"\xff"}]},
        {"consumer": "c", "at": 2**63},
        {"consumer": "c", "at": -1},
    ],
)
def test_whatever_a_producer_has_put_into_headers_is_shown(headers: dict[str, Any]) -> None:
    letter = DeadLetter.parse("5.0", "default.a", b"4", headers)
    assert (letter.body, letter.died_at) == ("4", None)


def test_texts_cannot_control_a_terminal_and_are_not_endless() -> None:
    wild = "\x1b[2J\r\nö\u202e" + "x" * 10_000
    headers = {"from": wild, "to": wild, "x-death": [{"reason": wild}]}
    letter = DeadLetter.parse(wild, wild, b"", headers)
    aside = DeadLetter.parse(
        None, None, b"", {"consumer": "c", "position": wild, "subject": wild, "reason": wild}
    )
    for text in (*letter[:2], *letter[3:6], *aside[:2], aside.reason):
        assert text.startswith(r"\x1b[2J\r\nö\u202exxx")
        assert len(text) < 1100
