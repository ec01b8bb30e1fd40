from cloudmatch_analytics.core.watermark import QUIET_MS, Ticker

START = 1_700_000_000_000


def test_there_is_no_time_to_tell_before_the_queue_is_known_to_be_empty():
    assert Ticker(START).tick(START + QUIET_MS - 1) is None


def test_a_quiet_queue_lets_the_wall_clock_speak():
    assert Ticker(START).tick(START + QUIET_MS) == START + QUIET_MS


def test_while_a_backlog_comes_time_is_what_its_newest_message_says():
    ticker = Ticker(START)
    for step in range(100):  # an hour old, a message every 100 ms
        now = START + 100 * step
        ticker.heard(now - 3_600_000, now)
        assert ticker.tick(now + 50) == now - 3_600_000


def test_an_older_message_does_not_turn_time_back():
    ticker = Ticker(START)
    ticker.heard(START - 10, START)
    ticker.heard(START - 5_000, START)
    assert ticker.tick(START) == START - 10
