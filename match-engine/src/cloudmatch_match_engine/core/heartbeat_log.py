"""The last heartbeat of each process of one role, for people to look at; it decides nothing.

`Presence` and `Membership` decide who is alive. This remembers what processes said of themselves, and for a
while what those said that are silent or have left. `now` in seconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cloudmatch_bus.contract.liveness import EDGE_DEAD_AFTER
from cloudmatch_bus.contract.messages import Heartbeat

KEPT_FOR = 600.0  # s for which a silent process is remembered
LEFT_KEPT_FOR = 60.0  # s, one that announced its end
MOST = 4096  # names remembered


@dataclass
class Heard:
    """The last heartbeat of the newest process of a name."""

    heartbeat: Heartbeat
    at: float  # s
    # heartbeats of older processes of the same name since this one was first heard, and the last of them
    older: int = 0
    older_at: float = 0.0  # s

    def contested(self, now: float) -> bool:
        """Whether two running processes have this name; one late heartbeat of an older one proves nothing."""
        return self.older > 1 and now - self.older_at <= EDGE_DEAD_AFTER


class HeartbeatLog:
    """The last heartbeats, at most of `MOST` names."""

    def __init__(self) -> None:
        # by name, the one heard last at the end
        self._heard: dict[str, Heard] = {}

    def record(self, heartbeat: Heartbeat, now: float) -> None:
        """Remember a heartbeat, or that its process left."""
        heard = self._heard.get(heartbeat.name)
        if heard is None:
            heard = Heard(heartbeat, now)
        elif heartbeat.incarnation < heard.heartbeat.incarnation:
            if not heartbeat.leaving:
                heard.older, heard.older_at = heard.older + 1, now
            return
        else:
            if heartbeat.incarnation > heard.heartbeat.incarnation:
                heard.older = 0
            heard.heartbeat, heard.at = heartbeat, now
            del self._heard[heartbeat.name]
        self._heard[heartbeat.name] = heard
        self._forget(now)

    def _forget(self, now: float) -> None:
        """Forget the process heard longest ago if it is due; one at each heartbeat keeps up."""
        name = next(iter(self._heard))
        if len(self._heard) > MOST or now - self._heard[name].at > KEPT_FOR:
            del self._heard[name]

    def get(self, name: str) -> Heard | None:
        """Return what the newest process of a name said last."""
        return self._heard.get(name)

    def recent(self, now: float) -> Iterator[str]:
        """Yield the names of all processes to show: those that left are shown for a shorter time."""
        for name, heard in self._heard.items():
            if now - heard.at <= (LEFT_KEPT_FOR if heard.heartbeat.leaving else KEPT_FOR):
                yield name
