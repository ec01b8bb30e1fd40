"""An id connects and is taken over at once a few times, then only so often."""

from cloudmatch_edge.relay.connects import BURST, TAKEOVER, Connects


def war(rate: float, seconds: float) -> list[float]:
    """Two clients with one id connect as soon as they may; return when each takes over."""
    connects, now, at = Connects(rate), 0.0, []
    while now < seconds:
        connects.connected("a", now)
        connects.taken_over("a", now)
        at.append(now)
        now += connects.wait("a", now)
    return at


def test_a_device_connects_ten_times_at_once_and_then_at_the_rate() -> None:
    connects = Connects(1.0)
    for _ in range(int(BURST)):
        assert connects.wait("a", 5.0) == 0.0
        connects.connected("a", 5.0)
    assert connects.wait("a", 5.0) == 1.0
    assert connects.wait("b", 5.0) == 0.0, "others connect as before"
    assert connects.wait("a", 6.0) == 0.0


def test_two_clients_with_one_id_are_slowed_down_more() -> None:
    assert war(1.0, 15.0) == [0.0, 0.0, 0.0, 3.0, 7.0, 11.0]
    assert len(war(1.0, 1000.0)) == 3 + 1000 / (1 + TAKEOVER)


def test_without_a_rate_nothing_is_limited() -> None:
    connects = Connects(0.0)
    for _ in range(1000):
        connects.connected("a", 0.0)
        connects.taken_over("a", 0.0)
    assert connects.wait("a", 0.0) == 0.0
