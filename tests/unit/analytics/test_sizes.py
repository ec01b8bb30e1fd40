from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_analytics.core.sizes import MAX_DIGITS, UnreadableError, key, read

ARRIVAL = 1_700_000_000_500
HEADERS = {"app": "demo", "from": "alice", "to": "bob", "match": 7, "at": ARRIVAL - 500}


def test_a_message_of_the_bridge_is_read_whole():
    size = read(b"64", HEADERS, "12.3", None, ARRIVAL)
    assert (size.key, size.bytes, size.at) == ("demo.alice", 64, ARRIVAL - 500)


def test_a_body_alone_counts_for_an_unknown_device_of_the_default_app_at_its_arrival():
    size = read(b"4", {}, None, None, ARRIVAL)
    assert size == (None, "default.", 4, ARRIVAL)


def test_without_a_header_the_time_is_that_of_the_message():
    sent = datetime.fromtimestamp(1_700_000_000, UTC)
    assert read(b"4", {}, None, sent, ARRIVAL).at == 1_700_000_000_000


def test_a_time_to_come_is_the_arrival():
    assert read(b"4", {"at": ARRIVAL + 60_000}, "1.0", None, ARRIVAL).at == ARRIVAL


def test_a_redelivery_has_the_same_id_even_when_its_clock_was_ahead():
    ahead = {"at": ARRIVAL + 60_000}
    assert read(b"4", ahead, "1.0", None, ARRIVAL).id == read(b"4", ahead, "1.0", None, ARRIVAL + 99).id


def test_ids_that_begin_again_at_another_time_are_others():
    first, second = ({**HEADERS, "at": ARRIVAL - back} for back in (500, 100))
    assert read(b"4", first, "1.0", None, ARRIVAL).id != read(b"4", second, "1.0", None, ARRIVAL).id


@pytest.mark.parametrize(
    "body", [b"", b"four", b"-4", b"4.0", b" 4", b"4\n", b"\xd9\xa4", b"\xff", b"1" * 16]
)
def test_a_body_that_is_no_decimal_is_refused(body):
    with pytest.raises(UnreadableError):
        read(body, HEADERS, "1.0", None, ARRIVAL)


@pytest.mark.parametrize(
    "headers", [{"from": 5}, {"app": b"demo"}, {"at": "now"}, {"at": -1}, {"at": True}, {"at": 1.5}]
)
def test_a_header_of_the_wrong_type_is_refused(headers):
    with pytest.raises(UnreadableError):
        read(b"4", HEADERS | headers, "1.0", None, ARRIVAL)


@given(st.integers(0, 10**MAX_DIGITS - 1))
def test_every_size_within_bounds_is_read_back(number):
    assert read(str(number).encode(), {}, None, None, ARRIVAL).bytes == number


@given(st.text(min_size=1), st.text())
def test_the_key_of_a_device_has_one_dot(app, device):
    assert key(app, device).count(".") == 1
