"""How far event time has come."""

from cloudmatch_analytics.core.watermark import QUIET_MS, PartitionWatermarks, WatermarkClock, low_watermark

START = 1_700_000_000_000
HOUR = 3_600_000


def receive(clock: WatermarkClock, at: int, now: int) -> None:
    clock.arrive()
    clock.observe(at, now)


def test_there_is_no_watermark_before_the_queue_is_known_to_be_empty() -> None:
    assert WatermarkClock(START).watermark(START + QUIET_MS - 1) is None


def test_the_watermark_of_an_empty_queue_is_the_wall_clock() -> None:
    assert WatermarkClock(START).watermark(START + QUIET_MS) == START + QUIET_MS


def test_while_a_backlog_arrives_the_watermark_is_the_time_of_its_newest_message() -> None:
    clock = WatermarkClock(START)
    for step in range(100):  # an hour old, a message every 100 ms
        now = START + 100 * step
        receive(clock, now - HOUR, now)
        assert clock.watermark(now + 50) == now - HOUR


def test_an_older_message_does_not_turn_the_watermark_back() -> None:
    clock = WatermarkClock(START)
    receive(clock, START - 10, START)
    receive(clock, START - 5_000, START)
    assert clock.watermark(START) == START - 10


def test_a_message_without_a_time_keeps_the_queue_from_being_empty_and_says_nothing_else() -> None:
    clock = WatermarkClock(START)
    receive(clock, 0, START + 400)
    assert clock.watermark(START + QUIET_MS) is None
    assert clock.watermark(START + 400 + QUIET_MS) == START + 400 + QUIET_MS


def test_a_queue_whose_messages_wait_to_be_observed_is_not_empty() -> None:
    clock = WatermarkClock(START)
    receive(clock, START - HOUR, START)
    clock.arrive()
    assert clock.watermark(START + 10 * QUIET_MS) == START - HOUR


def test_a_queue_that_waited_for_an_ack_is_not_empty_at_once() -> None:
    clock = WatermarkClock(START)
    receive(clock, START - HOUR, START)
    clock.acknowledge(START + 5_000)
    assert clock.watermark(START + 5_000) == START - HOUR
    assert clock.watermark(START + 5_000 + QUIET_MS) == START + 5_000 + QUIET_MS


def test_fresh_messages_of_one_queue_do_not_pass_the_backlog_of_another() -> None:
    fresh, backlog = WatermarkClock(START), WatermarkClock(START)
    receive(fresh, START, START)
    assert low_watermark([fresh, backlog], START) is None
    receive(backlog, START - HOUR, START)
    assert low_watermark([fresh, backlog], START) == START - HOUR


def test_an_empty_queue_holds_no_other_up() -> None:
    busy, empty = WatermarkClock(START), WatermarkClock(START)
    now = START + 2 * QUIET_MS
    receive(busy, now - 5, now)
    assert low_watermark([busy, empty], now) == now - 5
    assert low_watermark([], now) is None


def test_the_low_watermark_is_unknown_until_every_partition_has_one() -> None:
    watermarks = PartitionWatermarks(2)
    assert watermarks.low() is None
    watermarks.advance(0, 50)
    assert watermarks.low() is None


def test_the_low_watermark_is_that_of_the_slowest_partition() -> None:
    watermarks = PartitionWatermarks(2)
    watermarks.advance(0, 50)
    watermarks.advance(1, 20)
    assert watermarks.low() == 20


def test_an_older_watermark_of_a_partition_changes_nothing() -> None:
    watermarks = PartitionWatermarks(1)
    watermarks.advance(0, 20)
    watermarks.advance(0, 10)
    assert watermarks.low() == 20
