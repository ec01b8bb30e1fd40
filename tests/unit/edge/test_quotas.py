"""What one address may take of an edge: n work, one more is refused, and works again later."""

from cloudmatch_edge.sockets.quotas import RETRY, SPARE, AddressQuotas

A, B = b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x02"


def test_an_address_has_so_many_connections_and_one_more_when_one_has_ended() -> None:
    quotas = AddressQuotas(3, 0)
    for number in range(3):
        assert quotas.opened(number, A)
        assert quotas.refusal(number, 0.0) is None
    assert quotas.opened(3, A)
    refusal = quotas.refusal(3, 0.0)
    assert refusal is not None
    assert "3 connections" in refusal.detail
    assert refusal.retry_after == RETRY
    quotas.opened("other", B)
    assert quotas.refusal("other", 0.0) is None
    quotas.closed(0)
    assert quotas.refusal(3, 0.0) is None


def test_beyond_some_spare_ones_no_request_is_read() -> None:
    quotas = AddressQuotas(3, 0)
    assert all(quotas.opened(number, A) for number in range(3 + SPARE))
    assert not quotas.opened("one more", A)
    quotas.closed("one more")
    quotas.closed(0)
    assert quotas.opened("again", A)


def test_an_address_connects_ten_seconds_worth_at_once_and_then_at_the_rate() -> None:
    quotas = AddressQuotas(0, 2)
    quotas.opened("other", B)
    for number in range(20):
        quotas.opened(number, A)
        assert quotas.refusal(number, 7.0) is None
        quotas.connected(number, 7.0)
        quotas.closed(number)
    quotas.opened(20, A)
    refusal = quotas.refusal(20, 7.0)
    assert refusal is not None
    assert "2 devices a second" in refusal.detail
    assert refusal.retry_after == 0.5
    assert quotas.refusal("other", 7.0) is None
    assert quotas.refusal(20, 7.5) is None


def test_a_connection_counts_under_the_address_that_is_found_last() -> None:
    quotas = AddressQuotas(1, 0)
    quotas.opened(1, A)
    quotas.opened(1, B)
    assert quotas.address(1) == B
    quotas.opened(2, A)
    assert quotas.refusal(2, 0.0) is None
    quotas.opened(2, B)
    assert quotas.refusal(2, 0.0) is not None


def test_what_has_no_address_is_not_limited() -> None:
    quotas = AddressQuotas(1, 0.1)
    for number in range(1000):
        assert quotas.opened(number, None)
        assert quotas.refusal(number, 0.0) is None
        quotas.connected(number, 0.0)
    assert len(quotas) == 0


def test_many_addresses_leave_nothing_behind() -> None:
    quotas = AddressQuotas(500, 20)
    for number in range(100_000):
        quotas.opened(number, number.to_bytes(8, "big"))
        quotas.connected(number, number / 10_000)
        quotas.closed(number)
        assert len(quotas) < 1000, "each has its tokens again after a twentieth of a second"
