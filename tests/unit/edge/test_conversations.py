"""The server's side of the conversations that the SDKs run as well."""

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
from cloudmatch_edge.dialects.base import SocketFrame
from cloudmatch_edge.dialects.close_codes import CloseCode
from cloudmatch_edge.dialects.parameters import Parameters
from cloudmatch_edge.dialects.v1 import V1
from cloudmatch_edge.dialects.v1_messages import Welcome
from cloudmatch_edge.relay.device import Device
from unit.edge.fakes import FakeBus, FakeMatches, FakeMatchmaking

FILE = Path(__file__).parents[3] / "edge/conformance/conversations.json"
CONVERSATIONS = [c for c in json.loads(FILE.read_text()) if c.get("only") != "sdk"]
PEER_CONNECTION = 1


class Server:
    """An edge with one device, whose peer is on `edge-b`: what it writes, and the causes."""

    reading = True

    def __init__(self) -> None:
        self.bus = FakeBus("edge-a")
        self.matchmaking = FakeMatchmaking()
        self.written: list[SocketFrame] = []
        self.closed: int | None = None
        self.connection_id = 0
        self.number = 0  # of the newest match
        self.sent: list[Payload] = []  # by the peer, in this match
        self.device: Device

    def write(self, frames: Sequence[SocketFrame]) -> None:
        self.written.extend(frames)

    def resume_reading(self) -> None: ...

    def close(self, code: CloseCode, _: str) -> None:
        self.closed = code.code

    def connect(self, query: dict[str, Any]) -> None:
        self.query = query
        self.closed = None
        self.connection_id += 10

    def cause(self, kind: str, cause: Any) -> None:
        getattr(self, kind)(cause)

    def connected(self, cause: Any) -> None:
        welcome = Welcome(cause["id"], cause["session"], cause["token"], cause["grace"], cause["max_payload"])
        dialect = V1(welcome)
        who = Parameters(
            cause["id"],
            0,
            0,
            resume=self.query.get("resume"),
            received=self.query.get("received", 0),
            match=self.query.get("match"),
        )
        self.device = Device(
            who,
            self.connection_id,
            self,
            dialect,
            self.bus,
            FakeMatches(),
            self.matchmaking,
            resume="resume" in self.query,
        )
        self.written += dialect.connected()

    def waiting(self, ms: int) -> None:
        self.bus.ms = ms
        self.number += 1
        self.device.on_answer(DeviceWaiting(connection_id=self.connection_id, since=self.number))

    def paired(self, cause: Any, matched_connection_id: int | None = None) -> None:
        assert cause["match"] >= self.number
        if cause["match"] != self.number or matched_connection_id is None:
            self.sent = []
        self.number = cause["match"]
        self.peer = cause["peer"]
        self.device.on_answer(
            self.paired_answer(cause, matched_connection_id=matched_connection_id or self.connection_id)
        )

    def paired_answer(self, cause: Any, matched_connection_id: int, *, away: bool = False) -> DevicePaired:
        return DevicePaired(
            connection_id=self.connection_id,
            match=cause["match"],
            peer=cause["peer"],
            distance=cause["distance"],
            matched_connection_id=matched_connection_id,
            peer_edge="edge-b",
            peer_connection_id=PEER_CONNECTION,
            peer_away=away,
        )

    def resumed(self, cause: Any) -> None:
        if self.device.match is None:
            self.paired(cause, matched_connection_id=self.connection_id - 10)
        assert self.device.match is not None
        position = Position(
            edge="edge-b",
            connection_id=PEER_CONNECTION,
            next=cause["taken"],
            delivered=cause["taken"],
            base=0,
            to=self.connection_id,
        )
        self.device.match.on_position(position)
        self.send_from(self.device.match.inbound.receiver.next)

    def unpaired(self, cause: Any) -> None:
        self.device.on_answer(
            DeviceUnpaired(connection_id=self.connection_id, match=self.number, reason=cause["reason"])
        )

    def peer_away(self, _: Any) -> None:
        if self.device.match is None:  # it comes with the match that the device resumes
            match = {"match": self.number, "peer": self.peer, "distance": 12.5}
            self.device.on_answer(
                self.paired_answer(match, matched_connection_id=self.connection_id - 10, away=True)
            )
        self.device.on_answer(
            PeerAway(connection_id=self.connection_id, match=self.number, peer_connection_id=PEER_CONNECTION)
        )

    def peer_back(self, _: Any) -> None:
        self.device.on_answer(
            PeerReturned(
                connection_id=self.connection_id,
                match=self.number,
                peer_edge="edge-b",
                peer_connection_id=PEER_CONNECTION,
            )
        )

    def payloads(self, cause: list[dict[str, Any]]) -> None:
        first = len(self.sent)
        self.sent += [frame_of(payload) for payload in cause]
        self.send_from(first)

    def send_from(self, first: int) -> None:
        """The peer's edge sends the peer's payloads from this number on."""
        frames = self.sent[first:]
        if frames:
            shape, payload = join(frames)
            prefix = subjects.ack_prefix("default", "edge-b", self.peer, self.number)
            address = subjects.parse_reply(f"{prefix}{first}.{shape}")
            assert address is not None
            self.device.on_batch(address, payload)

    def taken(self, total: int) -> None:
        assert self.device.match is not None
        self.device.match.on_ack(total, total, PEER_CONNECTION)

    def replaced(self, _: Any) -> None:
        self.device.on_answer(
            DeviceReplaced(connection_id=self.connection_id, by=self.connection_id + 1, edge="edge-c")
        )

    def stop(self, _: Any) -> None:
        self.close(self.device.dialect.going_away, "")


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
def test_the_server_holds_the_conversation(conversation: dict[str, Any]) -> None:
    server = Server()
    for step in map(expand, conversation["steps"]):
        match step:
            case {"connect": query}:
                server.connect(query)
            case {"server": frame, "cause": cause}:
                if isinstance(cause, dict):
                    ((kind, detail),) = cause.items()
                    server.cause(kind, detail)
                frame.pop("detail", None)
                assert server.written, f"nothing more is written, not {frame}"
                assert shown(server.written.pop(0)) == frame
            case {"client": frame}:
                for _ in range(step.get("times", 1)):
                    server.device.on_frames([frame_of(frame)])
            case {"drop": code, "cause": cause}:
                if isinstance(cause, dict):
                    ((kind, detail),) = cause.items()
                    server.cause(kind, detail)
                if cause == "network":
                    server.written.clear()
                else:
                    assert server.closed == code
                server.closed = None
    assert [shown(frame) for frame in server.written] == []
    assert server.closed is None
