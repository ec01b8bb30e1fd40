"""A worker's copy of the bucket, fed by the bucket's watch: its devices, and recent match events.

How long something lasts is measured here, by this worker's monotonic clock from when its mirror first showed
it: what other workers write into records are the times of their own clocks.
"""

import asyncio
from collections.abc import Callable, Iterator

from cloudmatch_bus.client.bucket import Entry
from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_match_engine.core.keys import device_id, parse_device
from cloudmatch_match_engine.core.replay import MatchEvent, ReplayLog
from cloudmatch_match_engine.core.roster import Roster
from cloudmatch_match_engine.core.transitions import is_same
from cloudmatch_match_engine.pairing.entries import device_in, pair_in, tombstone_in

WAIT_TIMEOUT = 2.0  # s


class Mirror:
    """The roster and the replay log. `now`: s, monotonic."""

    def __init__(self, roster: Roster, now: Callable[[], float]) -> None:
        self.roster = roster
        self._replay_log = ReplayLog()
        self._now = now
        # (revision, future) of tasks that wait for it
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    def on_entry(self, entry: Entry) -> None:
        """Apply a change of the bucket; wake the tasks that wait for it."""
        device = parse_device(entry.key)
        if device is not None:
            self.roster.put(device, device_in(entry), entry.revision, self._now())
        else:
            if (event := pair_in(entry) or tombstone_in(entry)) is not None:
                self._replay_log.record(event, entry.revision, self._now(), entry.age)
            self.roster.advance(entry.revision)
        if self._waiters:
            self._wake()

    # -- time

    def absent_for(self, record: DeviceRecord) -> float:
        """How many seconds a mirrored device has been disconnected, at least."""
        return self.roster.absent_for(record, self._now())

    def known_for(self, record: DeviceRecord) -> float:
        """For how many seconds the mirror has shown the connection of a record, at most; 0: not yet."""
        device = device_id(record.app, record.device)
        mirrored = self.roster.get(device)
        if mirrored is None or not is_same(mirrored.record, record):
            return 0.0
        return self._now() - self.roster.since(device).connection

    def is_recent(self, match: int) -> bool:
        """Whether a match was made so recently that JetStream recognizes its fact when it comes again."""
        return self._replay_log.is_recent(match, self._now())

    def schedule_replay(self) -> None:
        """Have all recent match events replayed."""
        self._replay_log.schedule(self._now())

    def retry(self, event: MatchEvent) -> None:
        """Have one event replayed whose consequences could not be completed."""
        self._replay_log.retry(event, self._now())

    def due(self) -> Iterator[MatchEvent]:
        """Yield the events to replay now."""
        return self._replay_log.due(self._now())

    # -- revisions

    async def wait_for(self, revision: int) -> None:
        """Wait until the mirror has reached a revision.

        Raises:
            TimeoutError: that takes longer than `WAIT_TIMEOUT`.
        """
        if self.roster.reached >= revision:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiters.append((revision, future))
        await asyncio.wait_for(future, WAIT_TIMEOUT)

    def _wake(self) -> None:
        for revision, future in self._waiters:
            if revision <= self.roster.reached and not future.done():
                future.set_result(None)
        self._waiters = [waiter for waiter in self._waiters if not waiter[1].done()]
