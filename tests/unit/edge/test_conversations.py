"""The server's side of the conversations that the SDKs run, too."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloudmatch_bus.contract import subjects
from cloudmatch_bus.contract.messages import (
    DevicePaired,
    DeviceReplaced,
    DeviceUnpaired,
    DeviceWaiting,
    PeerAway,
    PeerReturned,
    Position,
)
from cloudmatch_bus.contract.payloads import Payload, join
from cloudmatch_edge.dialects.parameters import Parameters
from cloudmatch_edge.dialects.v1 import V1
from cloudmatch_edge.dialects.v1_messages import Welcome
from cloudmatch_edge.relay.device import Device
from cloudmatch_edge.relay.match import Match

FILE = Path(__file__).parents[3] / "edge/conformance/conversations.json"
CONVERSATIONS = [c for c in json.loads(FILE.read_text()) if c.get("only") != "sdk"]
PEERS_SESSION = 1


class Wire:
    """An edge with one device, whose peer is on `edge-b`."""

    name = "edge-a"
    ms = 0
    asked: Match | None = None

    def now(self) -> float:
        return 0.0

    def clock(self) -> int:
        return self.ms

    def publish(self, subject: str, payload: bytes, reply: str = "") -> bool:
        return True

    def part(self, device: Device, match: Match) -> None:
        self.asked = match

    def ignore(self, *_: Any) -> None: ...

    fact = began = busy = ended = linger = soon = doubt = seek = renew = forget = ignore


class Server:
    """What the device hears, and what makes it hear that."""

    reading = True

    def __init__(self) -> None:
        self.wire = Wire()
        self.heard: list[Payload] = []
        self.closed: int | None = None
        self.connection_id = 0
        self.number = 0  # of the newest match
        self.said: list[Payload] = []  # by the peer in this match
        self.device: Device

    def send(self, frames: Sequence[Payload]) -> None:
        self.heard.extend(frames)

    def go_on(self) -> None: ...

    def end(self, code: int, _: str) -> None:
        self.closed = code

    def connect(self, query: dict[str, Any]) -> None:
        self.query = query
        self.closed = None
        self.connection_id += 10

    def cause(self, kind: str, told: Any) -> None:
        getattr(self, kind)(told)

    def connected(self, told: Any) -> None:
        welcome = Welcome(told["id"], told["session"], told["token"], told["grace"], told["max_payload"])
        dialect = V1(welcome)
        who = Parameters(
            told["id"],
            0,
            0,
            resume=self.query.get("resume"),
            received=self.query.get("received", 0),
            match=self.query.get("match"),
        )
        self.device = Device(who, self.connection_id, self, self.wire, dialect)
        if "resume" in self.query:
            self.device.resume()
        self.heard += dialect.connected()

    def waiting(self, ms: int) -> None:
        self.wire.ms = ms
        self.number += 1
        self.device.hear_answer(DeviceWaiting(connection_id=self.connection_id, since=self.number))

    def paired(self, told: Any, matched_connection_id: int | None = None) -> None:
        assert told["match"] >= self.number
        if told["match"] != self.number or matched_connection_id is None:
            self.said = []
        self.number = told["match"]
        self.peer = told["peer"]
        self.device.hear_answer(
            self.news(told, matched_connection_id=matched_connection_id or self.connection_id)
        )

    def news(self, told: Any, matched_connection_id: int, *, away: bool = False) -> DevicePaired:
        return DevicePaired(
            connection_id=self.connection_id,
            match=told["match"],
            peer=told["peer"],
            distance=told["distance"],
            matched_connection_id=matched_connection_id,
            peer_edge="edge-b",
            peer_connection_id=PEERS_SESSION,
            peer_away=away,
        )

    def resumed(self, told: Any) -> None:
        if self.device.match is None:
            self.paired(told, matched_connection_id=self.connection_id - 10)
        assert self.device.match is not None
        told_position = Position(
            edge="edge-b",
            connection_id=PEERS_SESSION,
            next=told["taken"],
            delivered=told["taken"],
            base=0,
            to=self.connection_id,
        )
        self.device.match.hear_position(told_position)
        self.pass_on(self.device.match.receiver.next)

    def unpaired(self, told: Any) -> None:
        self.device.hear_answer(
            DeviceUnpaired(connection_id=self.connection_id, match=self.number, reason=told["reason"])
        )

    def peer_away(self, _: Any) -> None:
        if self.device.match is None:  # the device hears of it with the match that it goes on with
            match = {"match": self.number, "peer": self.peer, "distance": 12.5}
            self.device.hear_answer(
                self.news(match, matched_connection_id=self.connection_id - 10, away=True)
            )
        self.device.hear_answer(
            PeerAway(connection_id=self.connection_id, match=self.number, peer_connection_id=PEERS_SESSION)
        )

    def peer_back(self, _: Any) -> None:
        self.device.hear_answer(
            PeerReturned(
                connection_id=self.connection_id,
                match=self.number,
                peer_edge="edge-b",
                peer_connection_id=PEERS_SESSION,
            )
        )

    def payloads(self, told: list[dict[str, Any]]) -> None:
        first = len(self.said)
        self.said += [frame_of(payload) for payload in told]
        self.pass_on(first)

    def pass_on(self, first: int) -> None:
        """The peer's edge sends what the peer has said, from this number on."""
        frames = self.said[first:]
        if frames:
            shape, payload = join(frames)
            prefix = subjects.ack_prefix("default", "edge-b", self.peer, self.number)
            address = subjects.parse_reply(f"{prefix}{first}.{shape}")
            assert address is not None
            self.device.hear_frames(address, payload)

    def taken(self, total: int) -> None:
        assert self.device.match is not None
        self.device.match.acked(total, total, PEERS_SESSION)

    def replaced(self, _: Any) -> None:
        self.device.hear_answer(
            DeviceReplaced(connection_id=self.connection_id, by=self.connection_id + 1, edge="edge-c")
        )

    def stop(self, _: Any) -> None:
        self.end(self.device.dialect.going_away, "")


def expand(value: Any) -> Any:
    if isinstance(value, dict):
        if "repeat" in value:
            return value["repeat"] * value["times"]
        return {key: expand(part) for key, part in value.items()}
    return [expand(part) for part in value] if isinstance(value, list) else value


def frame_of(step: Any) -> Payload:
    """Make the frame that a step describes; of a payload, the payload."""
    if not isinstance(step, dict):
        return True, json.dumps(step).encode()
    if "binary" in step:
        return False, base64.b64decode(step["binary"])
    if "raw" in step:
        return True, step["raw"].encode()
    return True, (step["text"] if set(step) == {"text"} else json.dumps(step)).encode()


def shown(frame: Payload) -> Any:
    """Show a frame as the file writes it."""
    is_text, data = frame
    if not is_text:
        return {"binary": base64.b64encode(data).decode()}
    message = msgspec.json.decode(data)
    message.pop("detail", None)
    return message


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=[c["name"] for c in CONVERSATIONS])
def test_the_server_keeps_up_the_conversation(conversation: dict[str, Any]) -> None:
    server = Server()
    for step in map(expand, conversation["steps"]):
        match step:
            case {"connect": query}:
                server.connect(query)
            case {"server": frame, "cause": cause}:
                if isinstance(cause, dict):
                    ((kind, told),) = cause.items()
                    if kind == "waiting" and server.wire.asked is not None:
                        server.wire.asked = None  # match-engine has ended what the device asked it to end
                    server.cause(kind, told)
                frame.pop("detail", None)
                assert server.heard, f"nothing more is said, not {frame}"
                assert shown(server.heard.pop(0)) == frame
            case {"client": frame}:
                for _ in range(step.get("times", 1)):
                    server.device.take([frame_of(frame)])
            case {"drop": code, "cause": cause}:
                if isinstance(cause, dict):
                    ((kind, told),) = cause.items()
                    server.cause(kind, told)
                if cause == "network":
                    server.heard.clear()
                else:
                    assert server.closed == code
                server.closed = None
    assert [shown(frame) for frame in server.heard] == []
    assert server.closed is None
