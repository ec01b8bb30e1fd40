"""The Python client holds the conversations that all implementations of cloudmatch.v1 share."""

import base64
import json
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from cloudmatch.conversation import SILENCE, Conversation
from cloudmatch.events import (
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
    Waiting,
)
from cloudmatch.inbox import ACK_DELAY
from cloudmatch.outbox import Delivered, Payload, Refused, Settlement, Undelivered
from cloudmatch.retry import STOPPED

SHARED = Path(__file__).parents[3] / "edge/conformance/conversations.json"
CONVERSATIONS = [c for c in json.loads(SHARED.read_text(encoding="utf-8")) if c.get("only", "sdk") == "sdk"]


def text(value: str | dict[str, Any]) -> str:
    return value if isinstance(value, str) else value["repeat"] * value["times"]


def data(shared: dict[str, Any]) -> Data:
    return base64.b64decode(shared["binary"]) if "binary" in shared else text(shared["text"])


def shared(payload: Data) -> dict[str, str]:
    """Write a payload as the shared conversations do."""
    if isinstance(payload, bytes):
        return {"binary": base64.b64encode(payload).decode()}
    return {"text": payload}


def expanded(frame: dict[str, Any]) -> dict[str, Any]:
    return {**frame, "text": text(frame["text"])} if "text" in frame else frame


class Run:
    """One conversation: hands in what the server says and the application does, and keeps what comes out."""

    def __init__(self) -> None:
        self.device = Conversation(52.37, 4.89)
        self.now = 1000.0
        self.sent: list[Payload] = []
        self.frames: deque[dict[str, Any]] = deque()
        self.events: deque[dict[str, Any]] = deque()

    def settled(self) -> None:
        """Fail when something was said or heard that no step expects."""
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
                said = expanded(frame)
                self.device.receive(data(frame) if "binary" in frame else json.dumps(said), self.now)
                for _, _, payload in list(self.device.inbox._items)[before:]:
                    self.events.append({"type": "payload", **shared(payload)})
            case {"client": frame, "cause": cause}:
                for _ in range(step.get("times", 1)):
                    if isinstance(cause, dict):
                        self.call(cause)
                    self.collect()
                    if isinstance(cause, dict) and "take" in cause and not self.frames:
                        self.pass_time(ACK_DELAY)
                    assert self.frames, f"nothing was said, expected {frame}"
                    assert self.frames.popleft() == expanded(frame)
            case {"call": call}:
                self.call(call)
            case {"event": event}:
                assert self.events, f"nothing was heard, expected {event}"
                heard = self.events.popleft()
                assert heard == {**event, **({"text": text(event["text"])} if "text" in event else {})}
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
                self.device.unmatch()
            case {"locate": [lat, lon]}:
                self.device.move(lat, lon)
            case {"leave": True}:
                self.device.leave()
            case {"silence": seconds}:
                assert seconds == SILENCE
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
        """Write an event as the shared conversations do."""
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
            case ServerError(code, _):
                return {"type": "error", "code": code}
            case Closed(code, _, undelivered):
                return {"type": "closed", "code": code, "undelivered": [shared(u) for u in undelivered]}
        raise AssertionError(event)

    def number(self, payload: Payload) -> int:
        """Give which of the application's payloads it is, from 1; one that is just being sent is the last."""
        return next((i for i, sent in enumerate(self.sent, 1) if sent is payload), len(self.sent) + 1)


@pytest.mark.parametrize("shared", CONVERSATIONS, ids=[c["name"] for c in CONVERSATIONS])
def test_a_shared_conversation_is_held(shared: dict[str, Any]) -> None:
    run = Run()
    for number, step in enumerate(shared["steps"]):
        try:
            run.step(step)
        except AssertionError as error:
            error.add_note(f"in step {number}: {step}")
            raise
    run.settled()
