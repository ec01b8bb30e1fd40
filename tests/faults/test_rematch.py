"""Devices that come and go under traffic: nothing is ever heard of a match but the current one."""

import asyncio
import contextlib
import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest

from faults.client import Client, connect, peer_of
from harness import NatsServer, Service

SECONDS = 8.0
DEVICES = 14
STAY = (0.15, 0.9)  # s a device stays
NOBODY = -1  # the match of a device that was not matched yet


class Life:
    """One connection of a device: its matches, what it said in them and what it heard."""

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.peers: list[str] = []  # of its matches, in order
        # by number of the payload: the match in which it was said, as this device knew
        self.said: list[int] = []
        # the same, and certain: its edge answered a later ping in that very match. Shorter than `said`.
        self.taken: list[int | None] = []
        self.heard: list[tuple[int, str, str]] = []  # match, who is said to speak, payload
        self.client: Client

    @property
    def match(self) -> int:
        """The present match, as an index into `peers`."""
        return len(self.peers) - 1

    def say(self, count: int) -> None:
        """Say payloads, then ask the edge for a sign that it has taken them."""
        payloads = []
        for _ in range(count):
            payloads.append(f"{self.number} {len(self.said)}")
            self.said.append(self.match)
        self.client.send(*payloads)
        self.client.ping(str(len(self.said)).encode())

    def hear(self, text: str) -> None:
        if (peer := peer_of(text)) is not None:
            self.peers.append(peer)
        elif text.startswith("device "):
            speaker, _, payload = text.removeprefix("device ").partition(" says: ")
            self.heard.append((self.match, speaker, payload))

    def pong(self, payload: bytes) -> None:
        # Edges write in the order of events: what was taken before the pong was written belonged to a
        # match whose sentence came before it.
        for number in range(len(self.taken), int(payload)):
            self.taken.append(self.match if self.said[number] == self.match else None)


async def _live(lives: list[Life], name: str, edges: list[Service], chance: random.Random) -> None:
    life = Life(len(lives), name)
    lives.append(life)
    life.client = await connect(chance.choice(edges).url, life.hear, life.pong, id=name, lat=1, lon=1)
    try:
        async with asyncio.timeout(chance.uniform(*STAY)):
            while life.client.open:
                await life.client.writable.wait()
                life.say(chance.choice((1, 1, 3, 20)))
                await asyncio.sleep(chance.uniform(0, 0.02))
    except TimeoutError:
        pass
    if chance.random() < 0.5:
        life.client.transport.abort()
    await life.client.close()


def _groups(lives: list[Life]) -> Iterator[tuple[Life, int, Life, list[int]]]:
    """Give (who heard, in which match, from whom, which numbers in order); fail at what cannot be."""
    for life in lives:
        matches: dict[int, list[tuple[Life, int]]] = defaultdict(list)
        for match, speaker, payload in life.heard:
            sender = lives[int(payload.split()[0])]
            assert match != NOBODY, f"{life.name} heard {payload!r} of {speaker} before any match"
            assert speaker == life.peers[match] == sender.name
            matches[match].append((sender, int(payload.split()[1])))
        for match, heard in matches.items():
            senders = {sender.number for sender, _ in heard}
            assert len(senders) == 1, "one match has one connection at each end"
            yield life, match, heard[0][0], [number for _, number in heard]


@pytest.mark.servers
@pytest.mark.parametrize("names", ["of their own", "used again"])
async def test_a_device_never_hears_a_payload_of_another_match(
    nats_server: NatsServer, start: Callable[..., Service], names: str
) -> None:
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    for _ in range(2):
        start("match-engine", bus)
    edges = [start("edge", {**bus, "CLOUDMATCH_EDGE_NAME": f"edge-{i}"}) for i in range(3)]
    lives: list[Life] = []
    numbers = itertools.count()

    end = asyncio.get_running_loop().time() + SECONDS

    async def device(i: int) -> None:
        chance = random.Random(f"{names}/{i}")  # noqa: S311  # no secret
        # Python 3.11 forgets a cancellation that meets the result of `wait_for`: so look at the time, too.
        while asyncio.get_running_loop().time() < end:
            name = f"d{i}" if names == "used again" else f"d{i}-{next(numbers)}"
            await _live(lives, name, edges, chance)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
            for i in range(DEVICES):
                group.create_task(device(i))
    await asyncio.gather(*(life.client.close() for life in lives if hasattr(life, "client")))

    heard_by: dict[tuple[int, int], tuple[int, int]] = {}
    matches = certain = 0
    for life, match, sender, sent in _groups(lives):
        matches += 1
        assert sent == list(range(sent[0], sent[0] + len(sent))), "each once, in order, none missing between"
        for number in sent:
            here = life.number, match
            assert heard_by.setdefault((sender.number, number), here) == here, "in one match, if in any"
            if number < len(sender.taken) and (taken := sender.taken[number]) is not None:
                assert taken != NOBODY, "said before any match, so for nobody"
                assert sender.peers[taken] == life.name, (
                    f"{life.name} heard in match {match} what {sender.name} said to {sender.peers[taken]}"
                )
                certain += 1
    unfinished = sum(len(life.said) for life in lives) - len(heard_by)
    print(f"{len(lives)} connections, {matches} directions of matches, {len(heard_by)} payloads heard,")  # noqa: T201  # shown with a failure
    print(f"{certain} of them surely said in one match, {unfinished} went nowhere")  # noqa: T201  # the same
    assert matches > 100
    assert certain > 1000
    assert unfinished > 100, "matches ended while payloads were on their way"
