"""A worker's copy of the bucket, fed by the bucket's watch: its devices, and recent match events."""

import asyncio
from collections.abc import Callable

from cloudmatch_bus.client.bucket import Entry
from cloudmatch_bus.contract.messages import decode_device, decode_pair, decode_tombstone
from cloudmatch_match_engine.core.keys import parse_device
from cloudmatch_match_engine.core.replay import ReplayLog
from cloudmatch_match_engine.core.roster import Roster

WAIT_TIMEOUT = 2.0  # s


class Mirror:
    """The roster and the replay log. `clock`: ms since 1970."""

    def __init__(self, roster: Roster, clock: Callable[[], int]) -> None:
        self.roster = roster
        self.replay_log = ReplayLog()
        self._clock = clock
        # (revision, future) of tasks that wait for it
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    def on_entry(self, entry: Entry) -> None:
        """Apply a change of the bucket; wake the tasks that wait for it."""
        device = parse_device(entry.key)
        if device is not None:
            record = None if entry.value is None else decode_device(entry.value)
            self.roster.put(device, record, entry.revision)
        else:
            if entry.value is not None:
                self.replay_log.record(decode_pair(entry.value), self._clock())
            elif entry.tombstone:
                self.replay_log.record(decode_tombstone(entry.tombstone), self._clock())
            self.roster.advance(entry.revision)
        if self._waiters:
            self._wake()

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
