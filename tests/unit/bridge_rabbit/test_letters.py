"""Dead letters as a person is shown them."""

from datetime import UTC, datetime

from cloudmatch_bridge_rabbit.core import dead_letter

DIED = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
OWN = {"app": "default", "from": "a", "to": "b", "match": 7, "at": 1}
ADDED = {
    "x-death": [{"count": 2, "reason": "rejected", "time": DIED, "queue": "q"}],
    "x-first-death-reason": "rejected",
    "x-first-death-queue": "q",
    "x-last-death-exchange": "e",
}


def test_a_letter_tells_what_it_was_and_why_it_died() -> None:
    assert dead_letter.letter("5.0", "default.a", b"4", {**OWN, **ADDED}) == dead_letter.Letter(
        "5.0", "default.a", "4", "a", "b", "rejected", DIED, 2
    )


def test_a_message_of_anybody_is_shown_as_far_as_it_goes() -> None:
    assert dead_letter.letter(None, None, b"\x1b[2J\xff", {}) == dead_letter.Letter(
        "", "", r"\x1b[2J\xff", "", "", "", None, 0
    )
    assert dead_letter.letter(None, None, b"9" * 1000, {}).body.endswith("… 1000 bytes")


def test_the_original_headers_are_those_without_what_rabbitmq_added() -> None:
    assert dead_letter.original({**OWN, **ADDED}) == OWN
