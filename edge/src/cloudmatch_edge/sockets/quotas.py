"""How many connections one address may have, and how often it may connect. Pure: the time is an argument."""

from collections import Counter
from collections.abc import Hashable
from typing import NamedTuple

from cloudmatch_edge.relay.rate_limit import Buckets

BURST = 10.0  # s whose connections may come at once
SPARE = 64  # connections of an address beyond its limit that are still read: probes, pages, refusals
RETRY = 5.0  # s after which an address with all its connections should try again


class TooMany(NamedTuple):
    """Why an address gets no further device."""

    detail: str
    retry_after: float  # s


class AddressQuotas:
    """The connections of each address (`client_address.key`); those of None are not counted.

    Args:
        most: connections of an address at the same time; 0: unlimited.
        rate: devices of an address that connect in a second, over time; 0: unlimited.
    """

    def __init__(self, most: int, rate: float) -> None:
        self._most = most
        self._rate = rate
        self._open: Counter[bytes] = Counter()
        self._addresses: dict[Hashable, bytes] = {}  # of open connections
        self._buckets = Buckets(rate, BURST * rate)

    def opened(self, connection: Hashable, address: bytes | None) -> bool:
        """Count a connection under its address, from now on if it was another's; return whether its request
        may be read."""
        self.closed(connection)
        if address is None:
            return True
        self._addresses[connection] = address
        self._open[address] += 1
        return not self._most or self._open[address] <= self._most + SPARE

    def address(self, connection: Hashable) -> bytes | None:
        """Return the address under which a connection is counted."""
        return self._addresses.get(connection)

    def closed(self, connection: Hashable) -> None:
        """Count a connection no more."""
        address = self._addresses.pop(connection, None)
        if address is not None:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    def refusal(self, connection: Hashable, now: float) -> TooMany | None:
        """Return why a connection cannot become a device's; None if it can."""
        address = self._addresses.get(connection)
        if address is None:
            return None
        if self._most and self._open[address] > self._most:
            return TooMany(f"your address has {self._most} connections, as many as it may", RETRY)
        if wait := self._buckets.wait(address, now):
            return TooMany(f"your address may connect {self._rate:g} devices a second", wait)
        return None

    def connected(self, connection: Hashable, now: float) -> None:
        """Note that a connection is a device's."""
        address = self._addresses.get(connection)
        if address is not None:
            self._buckets.take(address, now)

    def __len__(self) -> int:
        """How many addresses and connections are remembered."""
        return len(self._open) + len(self._addresses) + len(self._buckets)
