"""Pairs of devices on different edges, each telling the other numbered payloads at a given rate."""

import asyncio
import random
import time
from collections.abc import Sequence

from faults.talkers import V1, Classic, Talker
from faults.tally import Direction, Tally

SPACING = 4  # degrees between pairs: out of each other's reach
LETTERS = "abcdefghijklmnopqrstuvwxyz 0123456789 äöüß é 漢字 😀 "
SIZES = ((60, 20), (30, 200), (8, 1200), (2, 8000))  # (weight, characters up to)
BURSTS = ((6, 1), (3, 8), (1, 60))  # (weight, payloads at once up to)
MEAN_BURST = sum(w * (1 + most) / 2 for w, most in BURSTS) / sum(w for w, _ in BURSTS)


async def talk(talker: Talker, rate: float, chance: random.Random, stop: asyncio.Event) -> None:
    """Say `rate` payloads per second in uneven bursts, as far as there is room for them, until `stop`."""
    text = "".join(chance.choices(LETTERS, k=20_000))
    sizes, bursts = list(zip(*SIZES, strict=True)), list(zip(*BURSTS, strict=True))

    def payload() -> str:
        size = chance.randint(0, chance.choices(sizes[1], sizes[0])[0])
        start = chance.randrange(len(text) - size)
        return talker.says.send(text[start : start + size], time.monotonic_ns())

    next_at = time.monotonic()
    while not stop.is_set() and talker.open:
        count = chance.randint(1, chance.choices(bursts[1], bursts[0])[0])
        await talker.say(payload, count)
        # Who was held up does not catch up: the pause begins anew.
        next_at = max(next_at + count / rate, time.monotonic() - 0.1)
        await asyncio.sleep(next_at - time.monotonic())


class Traffic:
    """All pairs."""

    def __init__(self, pairs: int, rate: float, seed: int, kind: type[Talker] = Classic) -> None:
        """Make pairs of this kind that say `rate` payloads per second, all together."""
        self.tally = Tally()
        self.talkers: list[Talker] = []
        self._rate = rate / (2 * pairs)
        self._seed = seed
        self._stop = asyncio.Event()
        self._talking: list[asyncio.Task[None]] = []
        for i in range(pairs):
            names = f"left-{i}", f"right-{i}"
            one, two = (Direction(name, self.tally) for name in names)
            self.talkers += kind(*names, one, two), kind(*names[::-1], two, one)

    @property
    def sent(self) -> int:
        """Payloads sent so far."""
        return sum(t.says.sent for t in self.talkers)

    @property
    def heard(self) -> int:
        """Payloads heard so far, each counted once."""
        return sum(t.hears.heard for t in self.talkers)

    @property
    def pending(self) -> int:
        """Payloads that devices have sent and do not know to have arrived."""
        return sum(t.pending for t in self.talkers)

    @property
    def resumed(self) -> int:
        """How often devices came back to their match."""
        return sum(t.resumed for t in self.talkers if isinstance(t, V1))

    @property
    def bytes_heard(self) -> int:
        """Bytes of all payloads heard."""
        return sum(t.hears.bytes for t in self.talkers)

    async def connect(self, edges: Sequence[str]) -> None:
        """Connect all, the two of a pair to different edges, and wait until each has its peer."""
        columns = 340 // SPACING
        for i, talker in enumerate(self.talkers):
            pair, side = divmod(i, 2)
            lat, lon = SPACING * (pair // columns) - 60, SPACING * (pair % columns) - 170
            await talker.connect(edges[(pair + side) % len(edges)], lat, lon)
        for talker in self.talkers:
            await asyncio.wait_for(talker.matched.wait(), 20)

    def start(self) -> None:
        """Begin to talk."""
        for i, talker in enumerate(self.talkers):
            chance = random.Random(f"{self._seed}/{i}")  # noqa: S311  # no secret
            self._talking.append(asyncio.create_task(talk(talker, self._rate, chance, self._stop)))

    async def drop(self, seed: int, seconds: float) -> None:
        """Abort the connections of some devices, of some twice in a row, of some pairs both."""
        chance = random.Random(seed)  # noqa: S311  # no secret
        devices = [t.device for t in self.talkers if isinstance(t, V1)]
        first = chance.sample(devices, len(devices) // 3 + 1)
        for device in first:
            device.cut()
        await asyncio.sleep(seconds)
        for device in chance.sample(first, len(first) // 2 + 1):
            device.cut()

    async def finish(self, patience: float = 30) -> None:
        """Stop talking and wait for what is on its way; give up after `patience` s without progress."""
        self._stop.set()
        await asyncio.wait(self._talking, timeout=patience)
        for task in self._talking:
            task.cancel()
        heard, since = self.heard, time.monotonic()
        while (self.heard < self.sent or self.pending) and time.monotonic() - since < patience:
            if self.heard != heard:
                heard, since = self.heard, time.monotonic()
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)  # nothing more must come: what would now is heard twice
        for talker in self.talkers:
            talker.hears.close()

    def changes(self) -> list[str]:
        """Say which devices were disconnected, changed their match, or heard what they should not."""
        return [change for talker in self.talkers for change in talker.changes()]

    async def close(self) -> None:
        """Close all devices."""
        await asyncio.gather(*(t.close() for t in self.talkers))
