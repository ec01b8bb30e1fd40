"""Devices that tasks of this worker are about to match, so that other tasks avoid them without a conflict."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_match_engine.core.roster import Roster

Device = tuple[str, str]  # app, device
CLAIM_TIMEOUT = 2.0  # s


class Claim:
    """Two devices about to be matched. `revision`: where the match was written; 0: not (yet)."""

    def __init__(self, *devices: Device) -> None:
        self.devices = devices
        self.revision = 0
        self.completions = 0  # of the mirror, when the claim was written
        self._decided = False
        self._waiters: list[asyncio.Future[None]] = []

    async def decided(self) -> None:
        """Return once the claim is written or given up.

        Raises:
            TimeoutError: that takes longer than `CLAIM_TIMEOUT`.
        """
        if self._decided:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        await asyncio.wait_for(future, CLAIM_TIMEOUT)

    def decide(self) -> None:
        """Wake the tasks that wait for the outcome."""
        self._decided = True
        for future in self._waiters:
            if not future.done():
                future.set_result(None)


class Reservations:
    """The claims in progress, and written ones that the mirror does not show yet."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._claims: dict[Device, Claim] = {}
        self._written: deque[Claim] = deque()

    def of(self, record: DeviceRecord) -> Claim | None:
        """Return the claim that a device is part of."""
        self._drop_mirrored()
        return self._claims.get((record.app, record.device))

    @contextmanager
    def claim(self, one: DeviceRecord, other: DeviceRecord) -> Iterator[Claim]:
        """Reserve two devices until it is decided whether they are matched."""
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

    def _drop_mirrored(self) -> None:
        while self._written and self._is_mirrored(self._written[0]):
            self._drop(self._written.popleft())

    def _is_mirrored(self, claim: Claim) -> bool:
        """Whether the mirror shows a written claim. A bucket that was lost restarts its revisions; then a
        complete mirror shows all that is left of it."""
        return claim.revision <= self._roster.reached or claim.completions < self._roster.completions

    def _drop(self, claim: Claim) -> None:
        for device in claim.devices:
            if self._claims.get(device) is claim:
                del self._claims[device]
