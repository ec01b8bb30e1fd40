"""Messages that a worker drops: counted by reason; those that nobody honest sends are logged."""

import logging

from prometheus_client import Counter

from cloudmatch_bus.contract.claims import FalseClaimError
from cloudmatch_bus.process.summary import Summary

dropped = Counter("cloudmatch_match_engine_dropped", "Messages dropped by a worker", ["reason"])
_dropped = Summary(logging.getLogger("dropped"), "messages dropped")


def drop(subject: str, error: Exception) -> None:
    """Drop a message that is none of ours, or that speaks for somebody else. `error`: one of `UNREADABLE`."""
    dropped.labels("false_claim" if isinstance(error, FalseClaimError) else "unreadable").inc()
    _dropped.add(f"on {subject}: {error}")
