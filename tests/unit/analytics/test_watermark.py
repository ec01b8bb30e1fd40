"""How far event time has come."""

from cloudmatch_analytics.core.watermark import QUIET_MS, PartitionWatermarks, WatermarkClock

START = 1_700_000_000_000


def test_there_is_no_watermark_before_the_queue_is_known_to_be_empty() -> None:
    assert WatermarkClock(START).watermark(START + QUIET_MS - 1) is None


def test_the_watermark_of_an_empty_queue_is_the_wall_clock() -> None:
    assert WatermarkClock(START).watermark(START + QUIET_MS) == START + QUIET_MS


def test_while_a_backlog_arrives_the_watermark_is_the_time_of_its_newest_message() -> None:
    clock = WatermarkClock(START)
    for step in range(100):  # an hour old, a message every 100 ms
        now = START + 100 * step
        clock.observe(now - 3_600_000, now)
        assert clock.watermark(now + 50) == now - 3_600_000


def test_an_older_message_does_not_turn_the_watermark_back() -> None:
    clock = WatermarkClock(START)
    clock.observe(START - 10, START)
    clock.observe(START - 5_000, START)
    assert clock.watermark(START) == START - 10


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
