"""Pending claims: payloads that were delivered, and that may not be counted."""

from bisect import bisect_right, insort
from collections.abc import Collection, Iterable, Iterator
from itertools import chain

import msgspec

from cloudmatch_bus.contract.deliveries import Claim
from cloudmatch_journal.core.erasure import renamed_claim


class PendingClaim(msgspec.Struct, frozen=True, kw_only=True):
    """A claim, and the fact that it was part of."""

    position: int
    app: str
    at: int  # ms since 1970
    claim: Claim

    @property
    def end(self) -> int:
        """Number after that of the last payload that was delivered."""
        span = self.claim.span
        return self.claim.delivered if span is None else max(self.claim.delivered, span.end)

    @property
    def direction(self) -> tuple[int, str]:
        """Match and sender."""
        return self.claim.match, self.claim.sender


class Claims:
    """The pending claims of each direction. Methods return what is `awaited` after them: once all payloads
    before this number are counted, a claim of the direction is not pending any more; 0: none is."""

    def __init__(self, some: Iterable[PendingClaim] = ()) -> None:
        # by direction; those that end first are first
        self._claims: dict[tuple[int, str], list[PendingClaim]] = {}
        for each in some:
            self.add(each)

    def __len__(self) -> int:
        """Return the number of pending claims."""
        return sum(map(len, self._claims.values()))

    def __iter__(self) -> Iterator[PendingClaim]:
        """Iterate over all pending claims."""
        return chain.from_iterable(self._claims.values())

    def add(self, pending: PendingClaim) -> int:
        """Add a claim."""
        claims = self._claims.setdefault(pending.direction, [])
        insort(claims, pending, key=_end)
        return claims[0].end

    def counted(self, match: int, sender: str, before: float) -> int:
        """Remove the claims of a direction that end where all payloads before a number are counted."""
        claims = self._claims[match, sender]
        return self._keep(match, sender, claims[bisect_right(claims, before, key=_end) :])

    def remove(self, match: int, sender: str, ended: Collection[PendingClaim]) -> int:
        """Remove claims of a direction."""
        claims = self._claims.get((match, sender), [])
        return self._keep(match, sender, [each for each in claims if each not in ended])

    def forget(self, match: int, devices: Iterable[str]) -> None:
        """Remove the claims of a match of these devices."""
        for sender in devices:
            self._claims.pop((match, sender), None)

    def rename(self, match: int, device: str, name: str) -> None:
        """Give one device of a match another name."""
        for direction in [each for each in self._claims if each[0] == match]:
            for each in self._claims.pop(direction):
                self.add(msgspec.structs.replace(each, claim=renamed_claim(each.claim, device, name)))

    def _keep(self, match: int, sender: str, claims: list[PendingClaim]) -> int:
        if claims:
            self._claims[match, sender] = claims
            return claims[0].end
        self._claims.pop((match, sender), None)
        return 0


def _end(pending: PendingClaim) -> int:
    return pending.end
