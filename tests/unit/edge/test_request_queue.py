"""Requests to match-engine: few at a time, newcomers first, one question while nobody answers."""

import itertools

import pytest

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import AnyAnswer, AnyRequest, DeviceGone, LeavePool
from cloudmatch_edge.relay.request_queue import (
    DEPARTURE_SHARE,
    FIRST_WINDOW,
    PAUSE,
    TIMEOUT,
    WINDOW,
    Message,
    RequestQueue,
    Wanted,
)

HERE, THERE = "cell-1", "cell-2"
GONE = DeviceGone(connection_id=1)


class Edge:
    """An edge whose devices want something, at a time of the test's choice."""

    def __init__(self) -> None:
        self.now = 0.0
        self.queue = RequestQueue(lambda: 1.0)
        self.unwanted: set[str] = set()
        self.outcomes: dict[str, AnyAnswer | None] = {}

    def want(self, *devices: str, departure: bool = False, cell: str = HERE) -> None:
        for device in devices:

            def make(device: str = device) -> AnyRequest | None:
                request = LeavePool(app="demo", device=device, edge="e", connection_id=1)
                return None if device in self.unwanted else request

            def done(answer: AnyAnswer | None, device: str = device) -> None:
                self.outcomes[device] = answer

            lane = subjects.match_lane("demo", cell)
            self.queue.add(Wanted(lane, make, done, departure=departure))

    def send(self) -> list[Message]:
        """All that may be sent now."""
        messages = []
        while (message := self.queue.take(self.now)) is not None:
            messages.append(message)
        return messages

    def answer(self, *messages: Message) -> None:
        for message in messages:
            self.queue.answered(message, [GONE for _ in message.wanted], self.now)

    def not_taken(self, *messages: Message) -> None:
        for message in messages:
            self.queue.not_taken(message, self.now)

    def find_nobody(self) -> None:
        """Nobody takes what is sent now."""
        while messages := self.send():
            self.not_taken(*messages)

    def timed_out(self, *messages: Message) -> None:
        for message in messages:
            self.queue.timed_out(message, self.now)


def names(messages: list[Message]) -> list[str]:
    return [request.device for message in messages for request in message.requests]


def crowd(size: int, letter: str = "d") -> list[str]:
    return [f"{letter}{number}" for number in range(size)]


def test_a_request_is_sent_at_once_and_its_answer_is_passed_on() -> None:
    edge = Edge()
    edge.want("a")
    (message,) = edge.send()
    assert names([message]) == ["a"]
    assert message.timeout == TIMEOUT[0]
    edge.answer(message)
    assert edge.outcomes == {"a": GONE}
    assert len(edge.queue) == 0
    assert edge.queue.next_at() is None


def test_however_many_devices_want_something_only_a_window_of_requests_is_under_way() -> None:
    edge = Edge()
    edge.want(*crowd(1000))
    edge.want(*crowd(1000, "e"), cell=THERE)
    under_way = edge.send()
    assert len(names(under_way)) == 2 * FIRST_WINDOW
    most = 0
    while under_way:
        most = max(most, len(names(under_way)))
        edge.answer(under_way.pop(0))
        under_way += edge.send()
    assert most == WINDOW
    assert len(edge.outcomes) == 2000


def test_what_is_no_longer_wanted_is_not_sent() -> None:
    edge = Edge()
    edge.want(*crowd(1000))
    edge.unwanted = set(crowd(999))
    assert names(edge.send()) == ["d999"]
    assert edge.outcomes == dict.fromkeys(crowd(999))
    edge = Edge()
    edge.want("a")
    edge.unwanted = {"a"}
    assert edge.send() == []
    assert edge.queue.next_at() is None


def test_newcomers_go_before_departures_which_get_a_share() -> None:
    edge = Edge()
    edge.want(*crowd(100, "left"), departure=True)
    edge.want(*crowd(100, "new"))
    order: list[str] = []
    while messages := edge.send():
        order += names(messages)
        edge.answer(*messages)
    newcomers = [at for at, name in enumerate(order) if name.startswith("new")]
    assert max(newcomers) < 100 * DEPARTURE_SHARE / (DEPARTURE_SHARE - 1) + 1
    assert sum(name.startswith("left") for name in order[: 4 * DEPARTURE_SHARE]) == 4


def test_while_there_is_nobody_the_edge_asks_with_one_request_at_growing_intervals() -> None:
    edge = Edge()
    edge.want(*crowd(2000))
    edge.find_nobody()
    sent_at = []
    while edge.now < 60:
        edge.want(f"late{edge.now}", cell=f"{edge.now}")  # and nowhere else either
        at = edge.queue.next_at()
        assert at is not None
        edge.now = max(edge.now, at)
        (message,) = edge.send()
        assert len(message.wanted) == 1
        edge.not_taken(message)
        sent_at.append(edge.now)
    gaps = [after - before for before, after in itertools.pairwise(sent_at)]
    assert gaps[:3] == pytest.approx([2 * PAUSE[0], 4 * PAUSE[0], 8 * PAUSE[0]])
    assert gaps[-1] == pytest.approx(PAUSE[1])


def test_a_request_is_repeated_however_long_there_is_nobody() -> None:
    edge = Edge()
    edge.want("a")
    for _ in range(2000):
        edge.now = max(edge.now, edge.queue.next_at() or 0.0)
        (message,) = edge.send()
        edge.not_taken(message)
    assert message.timeout == TIMEOUT[1]


def test_once_one_request_is_answered_the_rest_follows_through_the_window() -> None:
    edge = Edge()
    edge.want(*crowd(200))
    edge.want(*crowd(200, "e"), cell=THERE)
    edge.find_nobody()
    edge.now = 1000.0
    (probe,) = edge.send()
    edge.answer(probe)
    while messages := edge.send():
        assert len(names(messages)) <= WINDOW
        edge.answer(*messages)
    assert len(edge.outcomes) == 400


def test_a_partition_without_a_worker_does_not_delay_others() -> None:
    edge = Edge()
    edge.want("a")
    edge.answer(*edge.send())
    edge.want("b", "c")
    edge.want(*crowd(50), cell=THERE)
    while messages := edge.send():
        mine = [m for m in messages if names([m])[0] in "bc"]
        edge.not_taken(*mine)
        edge.answer(*(m for m in messages if m not in mine))
    assert {"d0", "d49"} <= edge.outcomes.keys()
    assert not {"b", "c"} & edge.outcomes.keys()
    edge.now = edge.queue.next_at() or 0.0
    assert names(edge.send()) in (["b"], ["c"])


def test_a_newcomer_elsewhere_is_asked_for_first_while_nobody_answers() -> None:
    edge = Edge()
    edge.want("a")
    edge.find_nobody()
    edge.want("c", cell=THERE)
    assert edge.send() == []
    edge.now = edge.queue.next_at() or 0.0
    assert names(edge.send()) == ["c"]


def test_timeouts_grow_with_each_repetition_and_with_what_answers_take() -> None:
    edge = Edge()
    edge.want("a")
    timeouts = []
    for _ in range(4):
        edge.now = max(edge.now, edge.queue.next_at() or 0.0)
        (message,) = edge.send()
        timeouts.append(message.timeout)
        edge.now += message.timeout
        edge.timed_out(message)
    assert timeouts == [2.0, 4.0, 8.0, 8.0]
    edge = Edge()
    for _ in range(50):
        edge.want("a")
        (message,) = edge.send()
        edge.now += 1.0
        edge.answer(message)
    edge.want("a")
    assert 3.9 < edge.send()[0].timeout < 4.0


def test_a_lane_that_loses_a_message_sends_fewer_and_one_that_loses_all_falls_silent() -> None:
    edge = Edge()
    edge.want("a")
    (early,) = edge.send()
    edge.want("b")
    (late,) = edge.send()
    edge.now = 1.0
    edge.answer(late)
    edge.now = 2.0
    edge.timed_out(early)
    edge.want(*crowd(100))
    assert edge.queue.next_at() is None  # something was answered meanwhile
    messages = edge.send()
    assert len(names(messages)) == (FIRST_WINDOW + 1) // 2
    edge.now = 4.0
    edge.timed_out(*messages)
    assert edge.send() == []
    edge.now = edge.queue.next_at() or 0.0
    assert len(names(edge.send())) == 1


def test_what_was_not_carried_out_is_repeated_more_slowly() -> None:
    edge = Edge()
    edge.want(*crowd(100))
    (batch,) = edge.send()
    edge.queue.answered(batch, [GONE] * (FIRST_WINDOW - 1) + [None], edge.now)
    assert len(edge.outcomes) == FIRST_WINDOW - 1
    edge.now = 0.5
    (batch,) = edge.send()
    assert len(batch.wanted) == FIRST_WINDOW // 2
    assert [wanted.repetitions for wanted in batch.wanted] == [1, 0, 0, 0]
    edge.now = 1.0
    edge.queue.answered(batch, [None for _ in batch.wanted], edge.now)
    assert edge.send() == []
    edge.now = edge.queue.next_at() or 0.0
    assert len(edge.send()[0].wanted) == 1
