"""Pairs of devices on different edges that send each other numbered payloads at a given rate."""

import asyncio
import random
import time
from collections.abc import Sequence

from faults.checker import Checker, Direction
from faults.devices import ClassicDevice, Device, V1Device

SPACING = 4  # degrees between pairs: out of each other's reach
LETTERS = "abcdefghijklmnopqrstuvwxyz 0123456789 äöüß é 漢字 😀 "
SIZES = ((60, 20), (30, 200), (8, 1200), (2, 8000))  # (weight, characters up to)
BURSTS = ((6, 1), (3, 8), (1, 60))  # (weight, payloads at once up to)
MEAN_BURST = sum(w * (1 + most) / 2 for w, most in BURSTS) / sum(w for w, _ in BURSTS)


async def send_bursts(device: Device, rate: float, chance: random.Random, stop: asyncio.Event) -> None:
    """Send `rate` payloads per second in uneven bursts, as far as there is room for them, until `stop`."""
    text = "".join(chance.choices(LETTERS, k=20_000))
    sizes, bursts = list(zip(*SIZES, strict=True)), list(zip(*BURSTS, strict=True))

    def payload() -> str:
        size = chance.randint(0, chance.choices(sizes[1], sizes[0])[0])
        start = chance.randrange(len(text) - size)
        return device.outgoing.next_payload(text[start : start + size], time.monotonic_ns())

    next_at = time.monotonic()
    while not stop.is_set() and device.open:
        count = chance.randint(1, chance.choices(bursts[1], bursts[0])[0])
        await device.send(payload, count)
        # A device that was blocked does not catch up.
        next_at = max(next_at + count / rate, time.monotonic() - 0.1)
        await asyncio.sleep(next_at - time.monotonic())


class Workload:
    """All pairs."""

    def __init__(
        self, pairs: int, rate: float, seed: int, kind: type[ClassicDevice] | type[V1Device] = ClassicDevice
    ) -> None:
        """Make pairs of this kind that send `rate` payloads per second in total."""
        self.checker = Checker()
        self.devices: list[Device] = []
        self._rate = rate / (2 * pairs)
        self._seed = seed
        self._stop = asyncio.Event()
        self._sending: list[asyncio.Task[None]] = []
        for i in range(pairs):
            names = f"left-{i}", f"right-{i}"
            one, two = (Direction(name, self.checker) for name in names)
            self.devices += kind(*names, one, two), kind(*names[::-1], two, one)

    @property
    def sent(self) -> int:
        """Payloads sent so far."""
        return sum(device.outgoing.sent for device in self.devices)

    @property
    def received(self) -> int:
        """Payloads received so far, each counted once."""
        return sum(device.incoming.received for device in self.devices)

    @property
    def pending(self) -> int:
        """Payloads sent whose delivery is not confirmed."""
        return sum(device.pending for device in self.devices)

    @property
    def resumed(self) -> int:
        """How often devices resumed their session."""
        return sum(device.resumed for device in self.devices if isinstance(device, V1Device))

    @property
    def bytes_received(self) -> int:
        """Bytes of all payloads received."""
        return sum(device.incoming.bytes for device in self.devices)

    async def connect(self, edges: Sequence[str]) -> None:
        """Connect all, the two of a pair to different edges, and wait until each has its peer."""
        columns = 340 // SPACING
        for i, device in enumerate(self.devices):
            pair, side = divmod(i, 2)
            lat, lon = SPACING * (pair // columns) - 60, SPACING * (pair % columns) - 170
            await device.connect(edges[(pair + side) % len(edges)], lat, lon)
        for device in self.devices:
            await asyncio.wait_for(device.matched.wait(), 20)

    def start(self) -> None:
        """Start sending."""
        for i, device in enumerate(self.devices):
            chance = random.Random(f"{self._seed}/{i}")  # noqa: S311  # no secret
            self._sending.append(asyncio.create_task(send_bursts(device, self._rate, chance, self._stop)))

    async def drop_connections(self, seed: int, seconds: float) -> None:
        """Abort the connections of some devices, of some twice in a row, of some pairs both."""
        chance = random.Random(seed)  # noqa: S311  # no secret
        clients = [device.client for device in self.devices if isinstance(device, V1Device)]
        first = chance.sample(clients, len(clients) // 3 + 1)
        for client in first:
            client.drop_connection()
        await asyncio.sleep(seconds)
        for client in chance.sample(first, len(first) // 2 + 1):
            client.drop_connection()

    async def finish(self, timeout: float = 30) -> None:
        """Stop sending and wait for payloads in flight; give up after `timeout` s without progress."""
        self._stop.set()
        await asyncio.wait(self._sending, timeout=timeout)
        for task in self._sending:
            task.cancel()
        received, since = self.received, time.monotonic()
        while (self.received < self.sent or self.pending) and time.monotonic() - since < timeout:
            if self.received != received:
                received, since = self.received, time.monotonic()
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)  # whatever arrives now is a duplicate
        for device in self.devices:
            device.incoming.close()

    def problems(self) -> list[str]:
        """Describe which devices were disconnected, changed their match, or received something unexpected."""
        return [problem for device in self.devices for problem in device.problems()]

    async def close(self) -> None:
        """Close all devices."""
        await asyncio.gather(*(device.close() for device in self.devices))
