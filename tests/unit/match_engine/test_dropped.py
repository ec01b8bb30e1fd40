"""What is dropped is counted by reason, and named in the log at once."""

import logging

import pytest

from cloudmatch_bus.contract.claims import FalseClaimError
from cloudmatch_bus.process.summary import Summary
from cloudmatch_match_engine import dropped


async def test_a_false_claim_and_what_is_no_message_are_counted_apart_and_logged_as_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    summary = Summary(logging.getLogger("dropped"), "messages dropped")
    monkeypatch.setattr(dropped, "_dropped", summary)
    before = [dropped.dropped.labels(reason)._value.get() for reason in ("false_claim", "unreadable")]
    dropped.drop("cm.v1.a", FalseClaimError("cm.v1.a", "of edge 'x'"))
    dropped.drop("cm.v1.b", UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"))
    after = [dropped.dropped.labels(reason)._value.get() for reason in ("false_claim", "unreadable")]
    assert after == [value + 1 for value in before]
    (record,) = caplog.records
    assert "cm.v1.a claims to be of edge 'x'" in record.getMessage()
