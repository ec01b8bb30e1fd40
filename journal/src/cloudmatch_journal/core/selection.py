"""Select events by span, type, app and device."""

from datetime import datetime
from typing import NamedTuple

from cloudmatch_journal.core import segments
from cloudmatch_journal.core.segments import Document, Seal


class Moment(NamedTuple):
    """A point in the journal: a position, or a time (ms since 1970). The other is None."""

    position: int | None = None
    at: int | None = None

    def precedes(self, document: Document) -> bool:
        """Whether an event comes after this moment."""
        if self.position is not None:
            return bool(document["position"] > self.position)
        return self.at is None or bool(document["at"] > self.at)


def parse_moment(text: str) -> Moment:
    """Parse a position (digits only) or a time (ISO 8601; without an offset: in the local time zone).

    Raises:
        ValueError: it is neither.
    """
    if text.isascii() and text.isdigit():
        return Moment(position=int(text))
    try:
        return Moment(at=int(datetime.fromisoformat(text).timestamp() * 1000))
    except ValueError:
        raise ValueError(f"{text!r} is neither a position nor a time such as 2026-11-24T10:00") from None


class Selection(NamedTuple):
    """Conditions that must all hold; None: any."""

    after: Moment | None = None  # exclusive
    until: Moment | None = None  # inclusive
    kind: str | None = None
    app: str | None = None
    device: str | None = None

    def may_include(self, seal: Seal) -> bool:
        """Whether a segment may contain a selected event."""
        if self.after is not None and self.after.position is not None and seal.last <= self.after.position:
            return False
        if self.until is not None and self.until.position is not None and seal.first > self.until.position:
            return False
        if self.device is None or self.app is None:
            return True
        return segments.device_key(self.app, self.device) in seal.devices

    def includes(self, document: Document) -> bool:
        """Whether an event is selected."""
        return (
            (self.after is None or self.after.precedes(document))
            and (self.until is None or not self.until.precedes(document))
            and (self.kind is None or document["type"] in segments.types(self.kind))
            and self.app in (None, document["app"])
            and (self.device is None or self.device in segments.devices(document))
        )
