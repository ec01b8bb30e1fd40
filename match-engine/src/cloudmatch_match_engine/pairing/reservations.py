"""Devices that tasks of this worker are about to pair: others need no conflict to keep out of the way."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_match_engine.core.roster import Roster

Device = tuple[str, str]  # app, device
PATIENCE = 2.0  # s for a claim to be decided


class Claim:
    """Two devices being paired; `revision` is where that was written, 0 while (or when) it was not."""

    def __init__(self, *devices: Device) -> None:
        self.devices = devices
        self.revision = 0
        self.completions = 0  # of the mirror, when that was written
        self._over = False
        self._waiters: list[asyncio.Future[None]] = []

    async def decided(self) -> None:
        """Return once it is written or given up.

        Raises:
            TimeoutError: that takes too long.
        """
        if self._over:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        await asyncio.wait_for(future, PATIENCE)

    def decide(self) -> None:
        """It is."""
        self._over = True
        for future in self._waiters:
            if not future.done():
                future.set_result(None)


class Reservations:
    """The claims under way, and those written that the mirror does not show yet."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._claims: dict[Device, Claim] = {}
        self._written: deque[Claim] = deque()

    def of(self, record: DeviceRecord) -> Claim | None:
        """Give the claim that a device is part of."""
        self._forget()
        return self._claims.get((record.app, record.device))

    @contextmanager
    def claim(self, one: DeviceRecord, other: DeviceRecord) -> Iterator[Claim]:
        """Reserve two devices until it is decided whether they are paired."""
        claim = Claim((one.app, one.device), (other.app, other.device))
        for device in claim.devices:
            self._claims[device] = claim
        try:
            yield claim
        finally:
            claim.completions = self._roster.completions
            if claim.revision > self._roster.reached:
                self._written.append(claim)
            else:
                self._drop(claim)
            claim.decide()

    def _forget(self) -> None:
        while self._written and self._shows(self._written[0]):
            self._drop(self._written.popleft())

    def _shows(self, claim: Claim) -> bool:
        """Whether the mirror shows what was written. A bucket that was lost begins its revisions anew: then
        the mirror, once it is complete, shows all that is left of it."""
        return claim.revision <= self._roster.reached or claim.completions < self._roster.completions

    def _drop(self, claim: Claim) -> None:
        for device in claim.devices:
            if self._claims.get(device) is claim:
                del self._claims[device]
