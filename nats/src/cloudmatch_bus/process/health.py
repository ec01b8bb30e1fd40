"""Whether a process is ready, and why not."""

from collections.abc import Callable

import msgspec
from prometheus_client import generate_latest

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LIVENESS, READINESS, METRICS = "/system/liveness", "/system/readiness", "/metrics"


class Health:
    """Named checks; each returns None if all is well, else a short reason."""

    def __init__(self) -> None:
        self._checks: dict[str, Callable[[], str | None]] = {}
        self._warnings: dict[str, Callable[[], str | None]] = {}

    def set_check(self, name: str, check: Callable[[], str | None]) -> None:
        """Add or replace a check. It must be quick: it runs on every probe."""
        self._checks[name] = check

    def set_warning(self, name: str, check: Callable[[], str | None]) -> None:
        """Add or replace a check of what is wrong while the process is ready."""
        self._warnings[name] = check

    def reasons(self) -> dict[str, str]:
        """Return why the process is not ready, by check; empty if it is."""
        return {name: reason for name, check in self._checks.items() if (reason := check())}

    def readiness(self) -> tuple[int, bytes]:
        """Return HTTP status and JSON body of the readiness probe."""
        reasons = self.reasons()
        warnings = {name: text for name, check in self._warnings.items() if (text := check())}
        body = {"ready": not reasons, "reasons": reasons} | ({"warnings": warnings} if warnings else {})
        return (503 if reasons else 200), msgspec.json.encode(body)


def metrics() -> bytes:
    """Return all metrics of this process as Prometheus text."""
    return generate_latest()
