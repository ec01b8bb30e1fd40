"""The receiving half of a match."""

import pytest

from cloudmatch.core.events import Gap
from cloudmatch.core.inbox import ACK_COUNT, ACK_DELAY, Inbox

MATCH = 7


@pytest.fixture
def inbox() -> Inbox:
    """An inbox of a new match."""
    inbox = Inbox()
    inbox.reset(MATCH)
    return inbox


def filled(inbox: Inbox, count: int) -> Inbox:
    """Receive `count` payloads more, numbered on."""
    for number in range(inbox.received + 1, inbox.received + count + 1):
        assert inbox.receive(number, str(number)) is None
    return inbox


def test_payloads_are_taken_in_order_each_once(inbox: Inbox) -> None:
    filled(inbox, 3)
    assert len(inbox) == 3
    assert [inbox.take(0) for _ in range(3)] == ["1", "2", "3"]
    with pytest.raises(IndexError):
        inbox.take(0)


def test_a_binary_payload_has_the_number_after_the_previous_one(inbox: Inbox) -> None:
    inbox.receive(1, "one")
    inbox.receive(None, b"two")
    assert inbox.received == 2
    assert inbox.receive(2, "two") is None
    assert len(inbox) == 2


def test_repeats_after_a_resume_are_dropped_binary_ones_too(inbox: Inbox) -> None:
    filled(inbox, 2)
    assert inbox.resume(0) == 2
    inbox.receive(None, b"1")
    inbox.receive(2, "2")
    inbox.receive(None, b"3")
    assert [inbox.take(0) for _ in range(len(inbox))] == ["1", "2", b"3"]


@pytest.mark.parametrize(("number", "gap"), [(1, None), (2, Gap(1, 1, "missing")), (4, Gap(1, 3, "missing"))])
def test_missing_payloads_are_reported_as_a_gap(inbox: Inbox, number: int, gap: Gap | None) -> None:
    assert inbox.receive(number, "x") == gap
    assert inbox.received == number


def test_payloads_that_were_skipped_are_not_missing(inbox: Inbox) -> None:
    inbox.skip(3)
    assert inbox.receive(4, "four") is None
    inbox.skip(2)
    assert inbox.received == 4


def test_the_first_ack_is_due_at_once_and_the_next_only_after_a_delay(inbox: Inbox) -> None:
    filled(inbox, 3)
    assert inbox.ack(10) is None
    inbox.take(10)
    assert inbox.ack_due == 10
    assert inbox.ack(10) == 1
    inbox.take(10)
    assert inbox.ack_due == 10 + ACK_DELAY
    assert inbox.ack(10) is None
    inbox.take(10)
    assert inbox.ack(10 + ACK_DELAY) == 3
    assert inbox.ack(11) is None


def test_an_ack_of_many_payloads_is_sent_at_once(inbox: Inbox) -> None:
    filled(inbox, ACK_COUNT + 1)
    inbox.take(10)
    assert inbox.ack(10) == 1
    for _ in range(ACK_COUNT - 1):
        inbox.take(10)
    assert (inbox.ack_urgent, inbox.ack(10)) == (False, None)
    inbox.take(10)
    assert (inbox.ack_urgent, inbox.ack(10)) == (True, ACK_COUNT + 1)


def test_a_last_ack_does_not_wait_for_the_delay(inbox: Inbox) -> None:
    filled(inbox, 2)
    inbox.take(10)
    inbox.ack(10)
    inbox.take(10)
    assert inbox.ack(10, last=True) == 2


def test_no_ack_is_due_while_paused_and_a_resume_counts_all_received(inbox: Inbox) -> None:
    filled(inbox, 2)
    inbox.take(10)
    inbox.pause()
    assert inbox.ack_due is None
    inbox.take(10)
    assert inbox.ack(11) is None
    assert inbox.resume(2) == 2


def test_payloads_of_an_earlier_match_stay_but_do_not_count_in_the_next(inbox: Inbox) -> None:
    filled(inbox, 1)
    inbox.reset(MATCH + 1)
    assert inbox.received == 0
    assert inbox.take(10) == "1"
    assert inbox.ack_due is None
    filled(inbox, 1)
    inbox.take(10)
    assert inbox.ack(10) == 1
