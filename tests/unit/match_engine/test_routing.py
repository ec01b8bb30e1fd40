"""Batches are forwarded by the mirror; a match that it does not show is verified at the leader."""

from collections.abc import Awaitable

import pytest

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import DeviceRecord
from cloudmatch_match_engine.core.keys import device_id
from cloudmatch_match_engine.core.roster import Roster
from cloudmatch_match_engine.dropped import dropped
from cloudmatch_match_engine.routing import VERIFYING, BatchRouter

UP = subjects.up("demo", "e-a", "a")
EARLIER_UP = "cm.v1.demo.up.99.a"  # of edges of earlier versions


class FakeBus:
    """Keeps what is published and spawned."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes, str]] = []
        self.spawned: list[Awaitable[None]] = []

    def publish(self, subject: str, payload: bytes, reply: str = "") -> None:
        self.published.append((subject, payload, reply))

    def spawn(self, work: Awaitable[None]) -> None:
        self.spawned.append(work)


class FakeHandler:
    """`behind`: whether the leader has the match; None: it does not answer."""

    def __init__(self, behind: bool | None) -> None:
        self.behind = behind
        self.asked: list[tuple[int, str]] = []
        self.resent: list[tuple[str, str]] = []

    async def catch_up(self, app: str, device: str, match: int, edge: str) -> bool:
        self.asked.append((match, edge))
        if self.behind is None:
            raise TimeoutError
        return self.behind

    async def resend_state(self, app: str, device: str) -> None:
        self.resent.append((app, device))


class Setup:
    """A router whose mirror shows devices a and b in match 7."""

    def __init__(self, behind: bool | None = True) -> None:
        self.bus, self.handler, self.roster = FakeBus(), FakeHandler(behind), Roster()
        for revision, (name, peer) in enumerate((("a", "b"), ("b", "a")), 1):
            record = DeviceRecord(
                app="demo", device=name, edge=f"e-{name}", connection_id=1, lat=0, lon=0, match=7, peer=peer
            )
            self.roster.put(device_id("demo", name), record, revision)
        self.router = BatchRouter(self.bus, self.roster, self.handler)  # type: ignore[arg-type]  # fakes

    def batch(self, match: int, subject: str = UP, edge: str = "e-a") -> str:
        """Send a batch; return its reply address."""
        reply = f"{subjects.ack_prefix('demo', edge, 'a', match)}0.t5"
        self.router.on_batch(subject, reply, b"hello", None)
        return reply


def count_dropped(reason: str) -> float:
    return dropped.labels(reason)._value.get()


def test_a_batch_goes_to_the_peers_edge_with_its_reply_address() -> None:
    setup = Setup()
    reply = setup.batch(7)
    assert setup.bus.published == [(subjects.dn("demo", "e-b", "b"), b"hello", reply)]
    assert not setup.bus.spawned


@pytest.mark.parametrize("subject", [subjects.up_fallback("demo", "e-a", "a"), EARLIER_UP])
def test_a_batch_by_the_fallback_or_of_an_earlier_version_is_forwarded_too(subject: str) -> None:
    setup = Setup()
    setup.batch(7, subject)
    assert [subject for subject, _, _ in setup.bus.published] == [subjects.dn("demo", "e-b", "b")]


OF_ANOTHER = f"{subjects.ack_prefix('demo', 'e-b', 'b', 7)}0.t5"


@pytest.mark.parametrize(
    ("subject", "reply"), [(UP, ""), (UP, "_INBOX.1"), (UP, OF_ANOTHER), ("cm.v1.demo.up", "")]
)
def test_a_batch_without_an_address_is_dropped(subject: str, reply: str) -> None:
    setup, before = Setup(), count_dropped("no_address")
    setup.router.on_batch(subject, reply, b"hello", None)
    assert not setup.bus.published
    assert count_dropped("no_address") == before + 1


@pytest.mark.parametrize("match", [7, 8], ids=["routed", "verified"])
async def test_an_edge_sends_nothing_by_the_address_of_another(match: int) -> None:
    setup, before = Setup(), count_dropped("false_claim")
    setup.batch(match, subjects.up("demo", "e-x", "a"))
    assert not setup.bus.published
    assert not setup.bus.spawned, "and nobody is asked"
    assert count_dropped("false_claim") == before + 1


async def test_batches_of_an_unknown_match_are_verified_once_at_a_time() -> None:
    setup = Setup()
    setup.batch(8)
    setup.batch(8)
    (verification,) = setup.bus.spawned
    await verification
    assert not setup.handler.resent, "the mirror was behind, not the edge"
    assert not setup.bus.published, "the edge retransmits"
    setup.batch(8)
    assert len(setup.bus.spawned) == 2
    await setup.bus.spawned[1]


async def test_an_edge_that_does_not_hold_the_device_sends_nothing_for_it() -> None:
    setup, before = Setup(behind=False), count_dropped("stale_match")
    setup.batch(7, subjects.up("demo", "e.x", "a"), edge="e.x")
    await setup.bus.spawned[0]
    assert setup.handler.asked == [(7, "e.x")]
    assert not setup.bus.published
    assert count_dropped("stale_match") == before + 1


async def test_a_crowd_of_devices_is_verified_a_few_at_a_time() -> None:
    setup = Setup()
    for number in range(1000):
        device = f"d{number}"
        reply = f"{subjects.ack_prefix('demo', 'e-a', device, 8)}0.t5"
        setup.router.on_batch(subjects.up("demo", "e-a", device), reply, b"hello", None)
    assert len(setup.bus.spawned) == VERIFYING
    for verification in setup.bus.spawned:
        await verification
    setup.batch(8)
    assert len(setup.bus.spawned) == VERIFYING + 1
    await setup.bus.spawned[-1]


async def test_an_edge_that_is_behind_gets_its_devices_state() -> None:
    setup, before = Setup(behind=False), count_dropped("stale_match")
    setup.batch(6)
    await setup.bus.spawned[0]
    assert setup.handler.resent == [("demo", "a")]
    assert count_dropped("stale_match") == before + 1


async def test_a_leader_that_does_not_answer_is_asked_again_with_the_next_batch() -> None:
    setup = Setup(behind=None)
    setup.batch(8)
    await setup.bus.spawned[0]
    setup.batch(8)
    assert len(setup.bus.spawned) == 2
    await setup.bus.spawned[1]
