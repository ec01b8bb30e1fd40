"""What happens rarely is logged at once; a crowd of events is one line for each interval."""

import asyncio
import logging

import pytest

from cloudmatch_bus.process import summary
from cloudmatch_bus.process.summary import Summary
from harness import eventually


async def test_a_crowd_of_events_is_one_line_for_each_interval(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "INTERVAL", 0.01)
    events = Summary(logging.getLogger("events"), "events", logging.INFO)
    with caplog.at_level(logging.INFO):
        events.add("of a")
        for number in range(1000):
            events.add(f"of {number}")
        assert caplog.messages == ["events: 1, last of a"]
        await eventually(lambda: len(caplog.messages) == 2)
        await asyncio.sleep(0.05)
        assert caplog.messages[1:] == ["events: 1000, last of 999"]
        events.add("of b")
        assert caplog.messages[2:] == ["events: 1, last of b"]
