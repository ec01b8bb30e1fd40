"""How far event time has come."""

import pytest

from cloudmatch_analytics.core.watermark import (
    FRESH_MS,
    PATIENCE_MS,
    QUIET_MS,
    PartitionWatermarks,
    WatermarkClock,
    low_watermark,
)

START = 1_700_000_000_000
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def receive(clock: WatermarkClock, at: int, now: int) -> None:
    clock.arrive()
    clock.observe(at, now)


def empty(clock: WatermarkClock, now: int) -> None:
    """RabbitMQ says twice that the queue is empty."""
    clock.look(0, now - 1)
    clock.look(0, now)


def test_there_is_no_watermark_before_the_queue_is_known_to_be_empty() -> None:
    clock = WatermarkClock(START)
    assert clock.watermark(START + HOUR) is None
    clock.look(0, START)
    assert clock.watermark(START + QUIET_MS) is None  # messages may be on their way


def test_the_watermark_of_an_empty_queue_is_the_clock() -> None:
    clock = WatermarkClock(START)
    empty(clock, START + QUIET_MS)
    assert clock.watermark(START + QUIET_MS) == START + QUIET_MS


def test_an_empty_queue_counts_as_empty_for_a_while() -> None:
    clock = WatermarkClock(START)
    receive(clock, START - HOUR, START)
    empty(clock, START)
    assert clock.watermark(START + FRESH_MS) == START + FRESH_MS
    assert clock.watermark(START + FRESH_MS + 1) == START - HOUR


@pytest.mark.parametrize("behind", [2_000, 10 * MINUTE, 2 * DAY])
def test_edges_whose_clocks_are_behind_hold_windows_up_for_ten_seconds_at_most(behind: int) -> None:
    clock = WatermarkClock(START)
    for step in range(100):  # a message every 100 ms, no backlog
        now = START + 100 * step
        receive(clock, now - behind, now)
        empty(clock, now)
        assert clock.watermark(now + 50) == max(now - behind, now + 50 - PATIENCE_MS)


def test_a_backlog_that_is_already_on_its_way_is_waited_for() -> None:
    clock = WatermarkClock(START)
    receive(clock, START - HOUR, START)
    for _ in range(2):
        clock.arrive()
    empty(clock, START)
    clock.look(0, START + 1)
    clock.observe(START - HOUR + 1, START + 1)
    assert clock.watermark(START + 2) == START - HOUR + 1
    clock.observe(START - HOUR + 2, START + 2)
    assert clock.watermark(START + 2) == START + 2 - PATIENCE_MS


def test_messages_that_rabbitmq_holds_back_are_a_backlog_again() -> None:
    clock = WatermarkClock(START)
    receive(clock, START - HOUR, START)
    empty(clock, START)
    clock.look(5, START + 1)
    assert clock.watermark(START + QUIET_MS) == START - HOUR


@pytest.mark.parametrize("back", [2_000, 10 * MINUTE, 2 * DAY])
def test_a_clock_that_is_set_back_is_the_watermark_at_once(back: int) -> None:
    clock = WatermarkClock(START)
    receive(clock, START, START)
    now = START - back
    assert clock.watermark(now) == now
    empty(clock, now)
    assert clock.watermark(now) == now


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
    empty(clock, START + QUIET_MS)
    assert clock.watermark(START + QUIET_MS) == START + QUIET_MS - PATIENCE_MS
    assert clock.watermark(START + 400 + QUIET_MS) == START + 400 + QUIET_MS


def test_a_queue_whose_messages_wait_to_be_observed_is_not_empty() -> None:
    clock = WatermarkClock(START)
    receive(clock, START - HOUR, START)
    clock.arrive()
    empty(clock, START + 4 * QUIET_MS)
    assert clock.watermark(START + 5 * QUIET_MS) == START - HOUR


def test_a_queue_that_waited_for_an_ack_is_not_empty_at_once() -> None:
    clock = WatermarkClock(START)
    receive(clock, START - HOUR, START)
    clock.acknowledge(START + 5_000)
    empty(clock, START + 5_000)
    assert clock.watermark(START + 5_000) == START + 5_000 - PATIENCE_MS
    assert clock.watermark(START + 5_000 + QUIET_MS) == START + 5_000 + QUIET_MS


def test_fresh_messages_of_one_queue_do_not_pass_the_backlog_of_another() -> None:
    fresh, backlog = WatermarkClock(START), WatermarkClock(START)
    receive(fresh, START, START)
    assert low_watermark([fresh, backlog], START) is None
    receive(backlog, START - HOUR, START)
    assert low_watermark([fresh, backlog], START) == START - HOUR


def test_an_empty_queue_holds_no_other_up() -> None:
    busy, empty_one = WatermarkClock(START), WatermarkClock(START)
    now = START + 2 * QUIET_MS
    receive(busy, now - 5, now)
    assert low_watermark([busy, empty_one], now) is None
    empty(empty_one, now)
    assert low_watermark([busy, empty_one], now) == now - 5
    assert low_watermark([], now) is None


def test_the_low_watermark_is_unknown_until_every_partition_has_one() -> None:
    watermarks = PartitionWatermarks(2)
    assert watermarks.low(START) is None
    watermarks.advance(0, 50)
    assert watermarks.low(START) is None
    assert watermarks.slowest == 1


def test_the_low_watermark_is_that_of_the_slowest_partition() -> None:
    watermarks = PartitionWatermarks(2)
    watermarks.advance(0, 20)
    watermarks.advance(1, 50)
    assert watermarks.low(START) == 20
    assert watermarks.slowest == 0


def test_an_older_watermark_of_a_partition_changes_nothing() -> None:
    watermarks = PartitionWatermarks(1)
    watermarks.advance(0, 20)
    watermarks.advance(0, 10)
    assert watermarks.low(START) == 20


def test_watermarks_ahead_of_a_clock_that_is_set_back_are_forgotten() -> None:
    watermarks = PartitionWatermarks(2)
    for partition in range(2):
        watermarks.advance(partition, START + DAY)
    assert watermarks.low(START) == START
    watermarks.advance(0, START + 50)
    assert watermarks.low(START + 100) == START


@pytest.mark.parametrize("partition", [-1, 2, 10**9])
def test_watermarks_of_partitions_that_do_not_exist_change_nothing(partition: int) -> None:
    watermarks = PartitionWatermarks(2)
    for each in (0, partition, 1):
        watermarks.advance(each, 5)
    assert watermarks.low(9) == 5
