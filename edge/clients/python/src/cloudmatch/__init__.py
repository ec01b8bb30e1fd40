"""Exchange payloads with a device nearby.

::

    async with cloudmatch.connect("http://127.0.0.1:8080", id="a", lat=52.37, lon=4.89) as device:
        peer = await device.matched()
        await device.send("ciao")
        async for payload in device:
            print(f"{peer.id}: {payload}")

A device reconnects automatically; a lost connection neither loses nor duplicates a payload.
"""

from cloudmatch.core.conversation import State
from cloudmatch.core.errors import (
    ClosedError,
    CloudMatchError,
    NotMatchedError,
    PayloadRefusedError,
    PeerLeftError,
    ProtocolError,
    RefusedError,
    ReplacedError,
    TokenError,
    UnreachableError,
)
from cloudmatch.core.events import (
    Closed,
    Disconnected,
    Event,
    Gap,
    Matched,
    Peer,
    PeerAway,
    PeerBack,
    PeerLeft,
    Resumed,
    ServerError,
    TokenExpires,
    Waiting,
)
from cloudmatch.device import Device, connect

__all__ = [
    "Closed",
    "ClosedError",
    "CloudMatchError",
    "Device",
    "Disconnected",
    "Event",
    "Gap",
    "Matched",
    "NotMatchedError",
    "PayloadRefusedError",
    "Peer",
    "PeerAway",
    "PeerBack",
    "PeerLeft",
    "PeerLeftError",
    "ProtocolError",
    "RefusedError",
    "ReplacedError",
    "Resumed",
    "ServerError",
    "State",
    "TokenError",
    "TokenExpires",
    "UnreachableError",
    "Waiting",
    "connect",
]
