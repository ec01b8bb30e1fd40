"""How long the Python client waits before it reconnects."""

import pytest

from cloudmatch.core.retry import (
    AT_ONCE,
    BACKOFF,
    LONG_BACKOFF,
    OWN_ATTEMPT,
    RETRY_AFTER_MAX,
    Retry,
    retry_after,
)


def pauses(code: int | None, count: int, chance: float = 1.0) -> list[float]:
    retry = Retry()
    return [retry.pause(code, chance) for _ in range(count)]


@pytest.mark.parametrize("code", [None, 1006, 1011, 4008, 502])
def test_pauses_double_up_to_the_longest(code: int | None) -> None:
    assert pauses(code, 8) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, BACKOFF[1], BACKOFF[1]]


@pytest.mark.parametrize("code", [1013, 503])
def test_an_overloaded_server_is_given_more_time(code: int) -> None:
    assert pauses(code, 7) == [1, 2, 4, 8, 16, LONG_BACKOFF[1], LONG_BACKOFF[1]]


@pytest.mark.parametrize("code", [1001, 1012])
def test_the_devices_of_an_edge_that_shuts_down_reconnect_spread_over_a_second(code: int) -> None:
    assert [pauses(code, 1, chance)[0] for chance in (0, 0.5, 1)] == [0, AT_ONCE / 2, AT_ONCE]
    assert pauses(code, 3)[1:] == [0.2, 0.4]


def test_a_server_is_left_alone_for_as_long_as_it_asks_and_devices_return_spread() -> None:
    assert [Retry().pause(503, chance, 5) for chance in (0, 1)] == [5, 7.5]
    retry = Retry()
    assert [retry.pause(503, 0, 5) for _ in range(6)] == [5, 5, 5, 5, 8, LONG_BACKOFF[1] / 2]


def test_beyond_a_quota_a_device_waits_for_as_long_as_it_is_asked_to_and_tries_again() -> None:
    assert [Retry().pause(429, chance, 2) for chance in (0, 1)] == [2, 3]
    retry = Retry()
    assert [retry.pause(429, 0, 2) for _ in range(5)] == [2] * 5
    assert not retry.final(429, 0.0)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("5", 5), ("0", 0), ("86400", RETRY_AFTER_MAX), (None, 0), ("", 0), ("-1", 0), ("²", 0), ("soon", 0)],
)
def test_retry_after_is_a_whole_number_of_seconds(header: str | None, seconds: float) -> None:
    assert retry_after(header) == seconds


def test_chance_shortens_a_pause_by_half_at_most() -> None:
    assert pauses(None, 1, 0)[0] == pauses(None, 1, 1)[0] / 2


def test_a_stable_connection_resets_the_pauses() -> None:
    retry = Retry()
    first, *_ = [retry.pause(None, 1) for _ in range(4)]
    retry.succeeded()
    assert retry.pause(None, 1) == first


def test_only_the_servers_own_codes_end_a_device() -> None:
    assert [code for code in (None, 1000, 1005, 1006, 1008, 4000, 4999, 403) if Retry().final(code, 0)] == []
    assert [code for code in (1003, 1007, 1009, 4001, 4003) if not Retry().final(code, 0)] == []


def test_a_device_that_an_abandoned_attempt_of_its_own_may_have_replaced_tries_once_more() -> None:
    retry = Retry()
    retry.abandoned(100)
    assert not retry.final(4001, 101)
    assert retry.final(4001, 102)
    assert [Retry().pause(4001, chance) for chance in (0, 1)] == [0, AT_ONCE]


def test_an_attempt_that_was_abandoned_long_ago_excuses_no_rival() -> None:
    retry = Retry()
    retry.abandoned(100)
    assert retry.final(4001, 100 + OWN_ATTEMPT)


def test_a_device_that_can_get_another_token_returns_when_one_has_expired() -> None:
    assert [Retry(renews=renews).final(4003, 0) for renews in (False, True)] == [True, False]
    assert Retry(renews=True).final(4001, 0)
