"""Follow a stream that a script plays: every message once and in order, whatever happens on its way."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from cloudmatch_bus.client.connection import Bus, Headers
from cloudmatch_bus.client.follower import PATIENCE, Delivery, Follower
from cloudmatch_bus.contract.messages import PayloadsDelivered, encode
from harness import eventually
from harness.bus import counted

SUBJECT = "cm.v1.x.ev.delivered.a"

Answer = tuple[bytes, dict[str, str]]  # payload and headers


def fact(number: int) -> bytes:
    return encode(PayloadsDelivered(app="x", at=number, match=1, sender="a", receiver="b", sizes=[1]))


class Stream:
    """A stream, and the connection to it; `spoil` changes what it answers."""

    def __init__(self, *positions: int) -> None:
        self.messages = {position: (SUBJECT, fact(position)) for position in positions}
        self.empty_behind = 0  # its last position while it has no messages
        self.created = 1
        self.connected = True
        self.looked = 0  # how often somebody has
        self.asked: list[int] = []  # positions behind which somebody has read
        self.spoil: Callable[[list[Answer]], list[Answer]] = lambda answers: answers
        self.on_reconnect: list[Callable[[], Awaitable[object]]] = []
        self.client = SimpleNamespace(new_inbox=object)
        self._handlers: dict[Any, Any] = {}

    async def subscribe(self, inbox: Any, handler: Any) -> Any:
        self._handlers[inbox] = handler
        return inbox

    async def unsubscribe(self, inbox: Any) -> None:
        del self._handlers[inbox]

    def publish(self, _subject: str, payload: bytes, inbox: Any) -> bool:
        request = msgspec.json.decode(payload)
        self.asked.append(request["seq"] - 1)
        behind = sorted(each for each in self.messages if each >= request["seq"])
        found = behind[: request["batch"]]
        answers, last = list[Answer](), 0
        for position in found:
            subject, data = self.messages[position]
            headers = {"Status": "404", "Nats-Subject": subject, "Nats-Sequence": str(position)}
            answers.append((data, {**headers, "Nats-Last-Sequence": str(last)}))
            last = position
        end = {"Status": "204", "Nats-Last-Sequence": str(last)} if found else {"Status": "404"}
        for data, headers in self.spoil([*answers, (b"", end)]):
            asyncio.get_running_loop().call_soon(self._deliver, inbox, data, headers)
        return True

    def _deliver(self, inbox: Any, data: bytes, headers: Headers) -> None:
        if inbox in self._handlers:
            self._handlers[inbox]("inbox", "", data, headers)

    def jetstream(self) -> "Stream":
        return self

    async def stream_info(self, _: str) -> Any:
        self.looked += 1
        last = max(self.messages, default=self.empty_behind)
        state = SimpleNamespace(first_seq=min(self.messages, default=last + 1), last_seq=last)
        return SimpleNamespace(state=state, created=self.created)


class Reading:
    """A follower that notes what it is given."""

    def __init__(self, stream: Stream, after: int = 0) -> None:
        self.positions: list[int] = []
        self.resumed: list[int] = []
        self._stop = asyncio.Event()
        self.follower = Follower(as_bus(stream), resume=self._resume)
        self._running = asyncio.create_task(self.follower.run(self._handle, after, self._stop))

    async def _resume(self, position: int) -> int:
        self.resumed.append(position)
        return position

    async def _handle(self, deliveries: list[Delivery]) -> None:
        self.positions += [each.position for each in deliveries]

    async def end(self) -> None:
        self._stop.set()
        await asyncio.wait_for(self._running, 10)


def as_bus(stream: Any) -> Bus:
    bus: Bus = stream
    return bus


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PAUSE": 0.001, "RETRY": 0.001, "LOOK_INTERVAL": 0.01}.items():
        monkeypatch.setattr(f"cloudmatch_bus.client.follower.{name}", value)
    monkeypatch.setattr("cloudmatch_bus.client.history.BATCH", 3)


async def test_every_message_comes_once_and_in_order_though_its_own_headers_look_like_a_status() -> None:
    stream = Stream(*range(1, 9))
    reading = Reading(stream)
    await eventually(lambda: len(reading.positions) == 8)
    stream.messages[9] = (SUBJECT, fact(9))
    await eventually(lambda: reading.positions == [*range(1, 10)])
    assert reading.follower.health() is None
    await reading.end()
    assert stream.asked[:4] == [0, 3, 6, 8]


@pytest.mark.parametrize("lost", [0, 1, 2, 3])
async def test_what_was_lost_on_its_way_is_read_again(lost: int) -> None:
    stream = Stream(*range(1, 6))
    reading = Reading(stream)
    times = iter([True] * 3)

    def spoil(answers: list[Answer]) -> list[Answer]:
        return answers[:lost] + answers[lost + 1 :] if len(answers) > lost and next(times, False) else answers

    stream.spoil = spoil
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cloudmatch_bus.client.history.SILENCE", 0.05)
        await eventually(lambda: len(reading.positions) == 5)
    assert reading.positions == [1, 2, 3, 4, 5]
    assert len(reading.resumed) > 1
    await reading.end()


@pytest.mark.parametrize("status", ["503", "400", "409"])
async def test_a_position_asked_for_again_and_again_in_vain_is_said_until_it_is_read(status: str) -> None:
    stream = Stream(1, 2)
    stream.spoil = lambda _: [(b"", {"Status": status})]
    reading = Reading(stream, after=1)
    await eventually(lambda: len(stream.asked) >= PATIENCE + 1)
    await eventually(lambda: "nothing is read behind position 1" in str(reading.follower.health()))
    stream.spoil = lambda answers: answers
    await eventually(lambda: reading.positions == [2])
    assert reading.follower.health() is None
    await reading.end()


async def test_a_few_answers_less_are_no_reason_not_to_be_ready() -> None:
    stream = Stream(1, 2)
    reading = Reading(stream, after=2)
    await eventually(lambda: reading.follower.health() is None)
    refusals = iter([True] * (PATIENCE - 1))
    reasons: list[str | None] = []

    def spoil(answers: list[Answer]) -> list[Answer]:
        reasons.append(reading.follower.health())
        return [(b"", {"Status": "503"})] if next(refusals, False) else answers

    stream.spoil = spoil
    await eventually(lambda: len(reasons) > PATIENCE)
    assert set(reasons) == {None}
    await reading.end()


async def test_a_place_where_messages_are_missing_is_looked_at_once() -> None:
    stream = Stream(1, 2, 3, 7, 8)
    reading = Reading(stream)
    await eventually(lambda: reading.positions == [1, 2, 3, 7, 8])
    assert reading.resumed == [0, 3]
    stream.messages[9] = (SUBJECT, fact(9))
    await eventually(lambda: reading.positions[-1] == 9)
    assert reading.resumed == [0, 3]
    await reading.end()


@pytest.mark.parametrize("how", ["created again", "shorter", "reconnected"])
async def test_a_stream_that_may_be_another_is_looked_at(how: str) -> None:
    stream = Stream(1, 2, 3)
    reading = Reading(stream)
    await eventually(lambda: reading.positions == [1, 2, 3])
    await asyncio.sleep(0.03)
    assert reading.resumed == [0]
    if how == "created again":
        stream.created = 2
    elif how == "shorter":
        del stream.messages[3]
    else:
        for each in stream.on_reconnect:
            await each()
    await eventually(lambda: len(reading.resumed) > 1)
    await reading.end()


@pytest.mark.parametrize(
    "poison",
    [
        (SUBJECT, b"no fact"),
        (SUBJECT, b"\xff"),
        (SUBJECT, b"[" * 100_000),
        (SUBJECT, b'{"type":"' + b"x" * 100_000 + b'"}'),
        ("cm.v1.x.ev.delivered.\ufffd", fact(2)),
    ],
)
async def test_a_message_that_nobody_can_read_is_counted_named_once_and_skipped(
    poison: tuple[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    before = counted("cloudmatch_feed_undecodable_total")
    stream = Stream(1, 2, 3)
    stream.messages[2] = poison
    reading = Reading(stream)
    await eventually(lambda: reading.positions == [1, 3])
    assert reading.follower.health() is None
    assert counted("cloudmatch_feed_undecodable_total") == before + 1
    (record,) = [each for each in caplog.records if "position 2 " in each.getMessage()]
    assert len(record.getMessage()) < 600
    await reading.end()


async def test_nothing_waits_in_an_empty_stream_wherever_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloudmatch_bus.client.progress.PATIENCE", 0.05)
    stream = Stream()
    stream.empty_behind = 1_796_000_000_000_000
    reading = Reading(stream)
    await eventually(lambda: stream.looked > 20)
    assert reading.follower.health() is None
    assert reading.resumed == [0]
    await reading.end()


async def test_a_silent_bus_ends_neither_the_follower_nor_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloudmatch_bus.client.follower.SILENCE", 0.01)
    stream = Stream(1)
    stream.spoil = lambda _: []
    reading = Reading(stream)
    await eventually(lambda: reading.follower.health() == "EVENTS does not answer")
    await reading.end()
