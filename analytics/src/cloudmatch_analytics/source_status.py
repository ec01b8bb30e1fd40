"""What the source, in its own process, says of itself: memory that both processes see."""

import time
from multiprocessing import get_context

SILENCE = 5.0  # s without a sign of life before the source counts as stuck
REASON = 200  # bytes of a reason, at most


class Pulse:
    """Written by the source, read by the service. Handed over when the source's process starts."""

    def __init__(self) -> None:
        spawn = get_context("spawn")
        self._beat = spawn.RawValue("d", 0.0)  # monotonic, s
        self._taken = spawn.RawValue("Q", 0)
        self._rejected = spawn.RawValue("Q", 0)
        self._reason = spawn.RawArray("c", REASON + 1)
        self.waits("the source has not started")

    def beats(self) -> None:
        """Say that the source consumes."""
        self._reason.value = b""
        self._beat.value = time.monotonic()

    def waits(self, reason: str) -> None:
        """Say why the source does not consume."""
        self._reason.value = reason.encode(errors="replace")[:REASON]

    def count(self, taken: int = 0, rejected: int = 0) -> None:
        """Add to the messages taken over into Kafka, and to those that nobody can read."""
        self._taken.value += taken
        self._rejected.value += rejected

    @property
    def taken(self) -> int:
        return int(self._taken.value)

    @property
    def rejected(self) -> int:
        return int(self._rejected.value)

    @property
    def trouble(self) -> str | None:
        """Why the source does not consume, None when it does."""
        if reason := bytes(self._reason.value):
            return reason.decode(errors="replace")
        silent = time.monotonic() - float(self._beat.value)
        return f"the source has been silent for {silent:.0f} s" if silent > SILENCE else None
