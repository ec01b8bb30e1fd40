"""The conversation of the Python client: those shared by all implementations, and its timeouts."""

import base64
import json
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from cloudmatch.core.conversation import RETRY_AFTER, Conversation, State
from cloudmatch.core.errors import NotMatchedError, PayloadRefusedError, ProtocolError
from cloudmatch.core.events import (
    Closed,
    Data,
    Disconnected,
    Event,
    Gap,
    Matched,
    PeerAway,
    PeerBack,
    PeerLeft,
    Resumed,
    ServerError,
    TokenExpires,
    Waiting,
)
from cloudmatch.core.inbox import ACK_DELAY
from cloudmatch.core.outbox import Delivered, Payload, Refused, Settlement, Undelivered
from cloudmatch.core.retry import STOPPED

SILENCE = 5.0  # s: a sixth of the grace
SESSION = {"device": "a", "session": "s", "resume": "r", "grace": 30, "max_payload": 300_000}
WELCOME = {"type": "welcome", **SESSION}
MATCHED = {"type": "matched", "match": 7, "peer": "b", "distance": 1.0}
RESUMED = {**MATCHED, "type": "resumed", "received": 0}
SHARED = Path(__file__).parents[3] / "edge/conformance/conversations.json"
CONVERSATIONS = [c for c in json.loads(SHARED.read_text(encoding="utf-8")) if c.get("only", "sdk") == "sdk"]


def text(value: str | dict[str, Any]) -> str:
    return value if isinstance(value, str) else value["repeat"] * value["times"]


def data(shared: dict[str, Any]) -> Data:
    return base64.b64decode(shared["binary"]) if "binary" in shared else text(shared["text"])


def shared(payload: Data) -> dict[str, str]:
    """Return a payload in the form of the shared conversations."""
    if isinstance(payload, bytes):
        return {"binary": base64.b64encode(payload).decode()}
    return {"text": payload}


def expanded(frame: dict[str, Any]) -> dict[str, Any]:
    return {**frame, "text": text(frame["text"])} if "text" in frame else frame


class Run:
    """One conversation: feeds in frames and calls, and collects frames and events."""

    def __init__(self) -> None:
        self.device = Conversation(52.37, 4.89)
        self.now = 1000.0
        self.sent: list[Payload] = []
        self.frames: deque[dict[str, Any]] = deque()
        self.events: deque[dict[str, Any]] = deque()

    def settled(self) -> None:
        """Fail if a frame or event is left over that no step expects."""
        assert not self.frames
        assert not self.events

    def step(self, step: dict[str, Any]) -> None:
        reaction = "client" in step and step["cause"] == "server"
        if not (reaction or "event" in step or step.get("cause") == "same"):
            self.settled()
        match step:
            case {"connect": expected}:
                query = self.device.connect(self.now)
                for place in ("lat", "lon"):
                    found = query.pop(place)
                    assert expected.get(place, found) == found
                assert query == {k: str(v) for k, v in expected.items() if k not in ("lat", "lon")}
            case {"server": frame}:
                before = len(self.device.inbox)
                whole = expanded(frame)
                self.device.receive(data(frame) if "binary" in frame else json.dumps(whole), self.now)
                for _, _, payload in list(self.device.inbox._payloads)[before:]:
                    self.events.append({"type": "payload", **shared(payload)})
            case {"client": frame, "cause": cause}:
                for _ in range(step.get("times", 1)):
                    if isinstance(cause, dict):
                        self.call(cause)
                    self.collect()
                    if isinstance(cause, dict) and "take" in cause and not self.frames:
                        self.pass_time(ACK_DELAY)
                    assert self.frames, f"no frame, expected {frame}"
                    assert self.frames.popleft() == expanded(frame)
            case {"call": call}:
                self.call(call)
            case {"event": event}:
                assert self.events, f"no event, expected {event}"
                found = self.events.popleft()
                assert found == {**event, **({"text": text(event["text"])} if "text" in event else {})}
            case {"drop": code}:
                self.device.lost(code, self.now)
                if code in STOPPED:
                    self.device.close(code, STOPPED[code])
        self.collect()

    def call(self, call: dict[str, Any]) -> None:
        match call:
            case {"send": what}:
                self.sent.append(self.device.send(data(what), "receipt" in what))
            case {"take": count}:
                for _ in range(count):
                    self.device.take(self.now)
            case {"unmatch": True}:
                self.device.unmatch(self.now)
            case {"locate": [lat, lon]}:
                self.device.move(lat, lon)
            case {"token": token}:
                self.device.renew(token)
            case {"leave": True}:
                self.device.leave(self.now)
            case {"silence": seconds}:
                assert self.device.deadline == self.now + seconds
                self.pass_time(seconds)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        assert self.device.deadline is not None
        assert self.device.deadline <= self.now
        self.device.tick(self.now)
        self.collect()

    def collect(self) -> None:
        for frame in self.device.frames():
            self.frames.append(shared(frame) if isinstance(frame, bytes) else json.loads(frame))
        for event in self.device.events():
            if not isinstance(event, Disconnected):
                self.events.append(self.written(event))

    def written(self, event: Event | Settlement) -> dict[str, Any]:
        """Return an event in the form of the shared conversations."""
        match event:
            case Waiting():
                return {"type": "waiting"}
            case Matched(peer) | Resumed(peer):
                about = {"match": peer.match, "peer": peer.id, "distance": peer.distance}
                return {"type": type(event).__name__.lower(), **about}
            case Delivered(payload):
                return {"type": "delivered", "send": self.number(payload)}
            case Undelivered(payload, _, reason):
                return {"type": "undelivered", "send": self.number(payload), "reason": reason}
            case Refused(payload, code, _):
                return {"type": "refused", "send": self.number(payload), "code": code}
            case PeerAway(peer):
                return {"type": "peer_away", "peer": peer.id}
            case PeerBack(peer):
                return {"type": "peer_back", "peer": peer.id}
            case PeerLeft(peer, reason, undelivered):
                left = [shared(u) for u in undelivered]
                return {"type": "peer_left", "peer": peer.id, "reason": reason, "undelivered": left}
            case Gap(first, last, reason):
                return {"type": "gap", "from": first, "to": last, "reason": reason}
            case TokenExpires(seconds):
                return {"type": "token_expires", "in": seconds}
            case ServerError(code, _):
                return {"type": "error", "code": code}
            case Closed(code, _, undelivered):
                return {"type": "closed", "code": code, "undelivered": [shared(u) for u in undelivered]}
        raise AssertionError(event)

    def number(self, payload: Payload) -> int:
        """Return the number of one of the application's payloads, from 1; one being sent is the last."""
        return next((i for i, sent in enumerate(self.sent, 1) if sent is payload), len(self.sent) + 1)


@pytest.mark.parametrize("shared", CONVERSATIONS, ids=[c["name"] for c in CONVERSATIONS])
def test_the_client_passes_a_shared_conversation(shared: dict[str, Any]) -> None:
    run = Run()
    for number, step in enumerate(shared["steps"]):
        try:
            run.step(step)
        except AssertionError as error:
            error.add_note(f"in step {number}: {step}")
            raise
    run.settled()


def feed(device: Conversation, now: float, *frames: dict[str, Any]) -> None:
    for frame in frames:
        device.receive(json.dumps(frame), now)


def sent(device: Conversation) -> list[dict[str, Any]]:
    return [json.loads(frame) for frame in device.frames()]


@pytest.fixture
def matched() -> Conversation:
    """A device that was matched at 0 s, with no frame or event since."""
    device = Conversation(1, 2)
    device.connect(0)
    feed(device, 0, WELCOME, {"type": "waiting", "since": 0}, MATCHED)
    device.frames()
    device.events()
    return device


def test_a_match_expires_when_the_grace_passes_without_a_connection(
    matched: Conversation,
) -> None:
    matched.send("ciao")
    matched.lost(None, 10)
    assert (matched.state, matched.peer is not None) == (State.CONNECTING, True)
    assert matched.deadline == 40
    matched.tick(39)
    assert matched.events() == [Disconnected(None)]
    matched.tick(40)
    [left] = matched.events()
    assert isinstance(left, PeerLeft)
    assert (left.reason, left.undelivered) == ("expired", ("ciao",))
    assert "resume" not in matched.connect(41)


def test_the_server_decides_about_a_grace_that_passes_while_connecting(
    matched: Conversation,
) -> None:
    matched.send("ciao")
    matched.lost(None, 10)
    matched.connect(39)
    assert matched.deadline is None
    matched.tick(41)
    feed(matched, 42, WELCOME, RESUMED)
    assert sent(matched)[1:] == [{"type": "message", "text": "ciao"}]


def test_a_connection_that_is_silent_for_a_third_of_the_grace_is_dead(matched: Conversation) -> None:
    assert matched.deadline == SILENCE
    matched.tick(SILENCE)
    assert sent(matched) == [{"type": "ping"}]
    assert (matched.deadline, matched.dead) == (2 * SILENCE, False)
    matched.tick(2 * SILENCE)
    assert (matched.deadline, matched.dead, sent(matched)) == (None, True, [])


def test_any_frame_shows_that_the_connection_is_alive(matched: Conversation) -> None:
    matched.tick(SILENCE)
    feed(matched, 9, {"type": "pong"})
    assert matched.deadline == 9 + SILENCE
    matched.tick(2 * SILENCE)
    assert not matched.dead


def test_rate_limited_messages_are_repeated(matched: Conversation) -> None:
    matched.unmatch(1)
    matched.move(3, 4)
    matched.frames()
    feed(matched, 5, {"type": "error", "code": "rate_limited", "detail": "too many"})
    assert matched.deadline == 5 + RETRY_AFTER
    matched.tick(5 + RETRY_AFTER)
    assert sent(matched) == [{"type": "unmatch"}, {"type": "locate", "lat": 3, "lon": 4}]


def test_a_device_that_leaves_while_disconnected_leaves_on_its_next_connection(matched: Conversation) -> None:
    matched.lost(None, 1)
    matched.leave(1)
    assert matched.closed is None
    matched.connect(2)
    feed(matched, 3, WELCOME)
    assert sent(matched) == [{"type": "leave"}]
    matched.lost(1000, 4)
    assert matched.state is State.CLOSED


def test_a_device_that_leaves_before_its_first_welcome_is_closed() -> None:
    device = Conversation(1, 2)
    device.connect(0)
    device.leave(0)
    assert device.state is State.CLOSED


def test_a_payload_larger_than_the_window_travels_alone(matched: Conversation) -> None:
    large = "x" * 200_000
    for payload in ("one", large, "three"):
        matched.send(payload)
    assert [frame["text"] for frame in sent(matched)] == ["one"]
    feed(matched, 1, {"type": "ack", "delivered": 1})
    assert [frame["text"] for frame in sent(matched)] == [large]
    feed(matched, 2, {"type": "ack", "delivered": 2})
    assert [frame["text"] for frame in sent(matched)] == ["three"]


@pytest.mark.parametrize("part", ["leave", "unmatch"])
def test_payloads_taken_are_acknowledged_before_the_device_parts(matched: Conversation, part: str) -> None:
    for number in (1, 2):
        feed(matched, 1, {"type": "message", "from": "b", "n": number, "text": "ciao"})
        matched.take(1)
        matched.tick(1)
    assert sent(matched) == [{"type": "ack", "received": 1, "match": 7}]
    getattr(matched, part)(1)
    assert sent(matched) == [{"type": "ack", "received": 2, "match": 7}, {"type": part}]


def test_a_device_without_a_match_can_neither_send_nor_unmatch() -> None:
    device = Conversation(1, 2)
    with pytest.raises(NotMatchedError):
        device.send("ciao")
    with pytest.raises(NotMatchedError):
        device.unmatch(0)


@pytest.mark.parametrize(
    "frame",
    [
        "Connected and handled by edge-0",
        "[]",
        "{}",
        "5",
        '{"type":"matched"}',
        '{"type":"ack","delivered":"1"}',
    ],
)
def test_an_invalid_frame_raises_a_protocol_error(matched: Conversation, frame: str) -> None:
    with pytest.raises(ProtocolError, match="invalid frame"):
        matched.receive(frame, 1)


def test_a_missing_payload_is_reported_as_a_gap(matched: Conversation) -> None:
    feed(matched, 1, {"type": "message", "from": "b", "n": 3, "text": "three"})
    assert matched.events() == [Gap(1, 2, "missing")]
    assert matched.take(2) == "three"


def test_the_state_follows_the_conversation() -> None:
    device = Conversation(1, 2)
    states = [device.state]
    device.connect(0)
    for frame in (WELCOME, {"type": "waiting", "since": 0}, MATCHED):
        feed(device, 0, frame)
        states.append(device.state)
    device.close(1000, "left")
    device.close(1001, "once more")
    assert [*states, device.state] == ["connecting", "waiting", "waiting", "matched", "closed"]


def test_a_payload_over_the_servers_limit_is_refused_before_it_is_sent(matched: Conversation) -> None:
    matched.send("é" * 150_000)
    with pytest.raises(PayloadRefusedError, match="300002 bytes exceed the limit of 300000"):
        matched.send("é" * 150_001)


def test_only_the_position_is_repeated_if_no_match_was_left(matched: Conversation) -> None:
    matched.move(3, 4)
    matched.frames()
    feed(matched, 5, {"type": "error", "code": "rate_limited", "detail": "too many"})
    matched.tick(5 + RETRY_AFTER)
    assert sent(matched) == [{"type": "locate", "lat": 3, "lon": 4}]


def test_other_errors_are_reported_and_repeat_nothing(matched: Conversation) -> None:
    feed(matched, 5, {"type": "error", "code": "bad_json", "detail": "not JSON"})
    assert matched.events() == [ServerError("bad_json", "not JSON")]
    assert matched.deadline == 5 + SILENCE


def test_a_server_that_accepts_no_connection_is_reported() -> None:
    conversation, error = Conversation(1, 2), ("edge_full", "full: 2 of 2 devices")
    conversation.unavailable(*error)
    assert (conversation.events(), conversation.state) == ([ServerError(*error)], State.CONNECTING)


def test_a_match_left_while_disconnected_is_left_again_on_the_next_connection(matched: Conversation) -> None:
    matched.lost(None, 1)
    matched.unmatch(1)
    assert matched.frames() == []
    assert matched.connect(2)["match"] == "7"
    feed(matched, 2, WELCOME, RESUMED)
    assert sent(matched) == [{"type": "unmatch"}]


def test_a_device_leaves_once(matched: Conversation) -> None:
    matched.leave(1)
    matched.leave(1)
    assert sent(matched) == [{"type": "leave"}]
    with pytest.raises(NotMatchedError):
        matched.send("ciao")


def test_a_move_while_connecting_is_sent_after_the_welcome(matched: Conversation) -> None:
    matched.lost(None, 1)
    matched.connect(2)
    matched.move(3, 4)
    feed(matched, 2, WELCOME)
    assert sent(matched) == [{"type": "locate", "lat": 3, "lon": 4}]
