"""How often one id may connect, and take over from a connection that is alive.

A device that reconnects quickly does so at once. Two clients with one id that both reconnect whenever they
are replaced would go on as fast as they can, and match and unmatch others: so what takes over pays more.
"""

from cloudmatch_edge.relay.rate_limit import Buckets

BURST = 10.0  # s whose connections may come at once
TAKEOVER = 3.0  # connections that a takeover costs on top of its own


class Connects:
    """The ids that have connected to one edge lately. Times are s, of any clock that only grows.

    Args:
        rate: connections of one id a second, over time; 0: unlimited.
    """

    def __init__(self, rate: float) -> None:
        self._buckets = Buckets(rate, BURST * rate)

    def wait(self, device: str, now: float) -> float:
        """Return the seconds until a device may connect; 0: now."""
        return self._buckets.wait(device, now)

    def connected(self, device: str, now: float) -> None:
        """Note that a device has connected."""
        self._buckets.take(device, now)

    def taken_over(self, device: str, now: float) -> None:
        """Note that another client has replaced a live connection of a device."""
        self._buckets.take(device, now, TAKEOVER)
