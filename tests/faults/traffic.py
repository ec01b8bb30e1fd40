"""Pairs of devices on different edges, each telling the other numbered payloads at a given rate."""

import asyncio
import random
import time
from collections.abc import Sequence

from faults.client import GREETING, Client, connect, peer_of
from faults.tally import Direction, Tally

SPACING = 4  # degrees between pairs: out of each other's reach
LETTERS = "abcdefghijklmnopqrstuvwxyz 0123456789 äöüß é 漢字 😀 "
SIZES = ((60, 20), (30, 200), (8, 1200), (2, 8000))  # (weight, characters up to)
BURSTS = ((6, 1), (3, 8), (1, 60))  # (weight, payloads at once up to)
MEAN_BURST = sum(w * (1 + most) / 2 for w, most in BURSTS) / sum(w for w, _ in BURSTS)


class Talker:
    """One device of a pair: says payloads, hears the peer's."""

    def __init__(self, name: str, peer: str, says: Direction, hears: Direction) -> None:
        self.name = name
        self.peer = peer
        self.says = says
        self.hears = hears
        self.matches: list[str] = []  # peers, in order
        self.stray: list[str] = []  # sentences that should not be
        self.client: Client
        self._prefix = f"device {peer} says: "
        self.matched = asyncio.Event()

    async def connect(self, edge: str, lat: float, lon: float) -> None:
        """Connect to the edge at this URL."""
        self.client = await connect(edge, self._hear, id=self.name, lat=lat, lon=lon)

    def _hear(self, text: str) -> None:
        if text.startswith(self._prefix):
            self.hears.hear(text[len(self._prefix) :], time.monotonic_ns())
        elif peer := peer_of(text):
            self.matches.append(peer)
            self.matched.set()
        elif not text.startswith(GREETING):
            self.stray.append(text[:200])

    async def talk(self, rate: float, chance: random.Random, stop: asyncio.Event) -> None:
        """Say `rate` payloads per second in uneven bursts, as far as the edge takes them, until `stop`."""
        text = "".join(chance.choices(LETTERS, k=20_000))
        sizes, bursts = list(zip(*SIZES, strict=True)), list(zip(*BURSTS, strict=True))
        next_at = time.monotonic()
        while not stop.is_set() and self.client.open:
            await self.client.writable.wait()
            count = chance.randint(1, chance.choices(bursts[1], bursts[0])[0])
            payloads = []
            for _ in range(count):
                size = chance.randint(0, chance.choices(sizes[1], sizes[0])[0])
                start = chance.randrange(len(text) - size)
                payloads.append(self.says.send(text[start : start + size], time.monotonic_ns()))
            self.client.send(*payloads)
            # Who was held up does not catch up: the pause begins anew.
            next_at = max(next_at + count / rate, time.monotonic() - 0.1)
            await asyncio.sleep(next_at - time.monotonic())


class Traffic:
    """All pairs."""

    def __init__(self, pairs: int, rate: float, seed: int) -> None:
        """Make pairs that say `rate` payloads per second, all together."""
        self.tally = Tally()
        self.talkers: list[Talker] = []
        self._rate = rate / (2 * pairs)
        self._seed = seed
        self._stop = asyncio.Event()
        self._talking: list[asyncio.Task[None]] = []
        for i in range(pairs):
            names = f"left-{i}", f"right-{i}"
            one, two = (Direction(name, self.tally) for name in names)
            self.talkers += Talker(*names, one, two), Talker(*names[::-1], two, one)

    @property
    def sent(self) -> int:
        """Payloads sent so far."""
        return sum(t.says.sent for t in self.talkers)

    @property
    def heard(self) -> int:
        """Payloads heard so far, each counted once."""
        return sum(t.hears.heard for t in self.talkers)

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
            self._talking.append(asyncio.create_task(talker.talk(self._rate, chance, self._stop)))

    async def finish(self, patience: float = 30) -> None:
        """Stop talking and wait for what is on its way; give up after `patience` s without progress."""
        self._stop.set()
        await asyncio.wait(self._talking, timeout=patience)
        for task in self._talking:
            task.cancel()
        heard, since = self.heard, time.monotonic()
        while self.heard < self.sent and time.monotonic() - since < patience:
            if self.heard != heard:
                heard, since = self.heard, time.monotonic()
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)  # nothing more must come: what would now is heard twice
        for talker in self.talkers:
            talker.hears.close()

    def changes(self) -> list[str]:
        """Say which devices were disconnected, changed their match, or heard what they should not."""
        out = []
        for t in self.talkers:
            if t.client.closed.done():
                out.append(f"{t.name} was disconnected with code {t.client.closed.result()}")
            if t.matches != [t.peer]:
                out.append(f"{t.name} was matched with {t.matches}, not only with {t.peer}")
            out += [f"{t.name} heard {text!r}" for text in t.stray]
        return out

    async def close(self) -> None:
        """Close all devices."""
        await asyncio.gather(*(t.client.close() for t in self.talkers))
