"""cloudmatch.v1: its commands and frames, and the server's side of the conversations that the SDKs run as
well."""

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
from cloudmatch_edge.admission.denied import unauthorized
from cloudmatch_edge.admission.permit import Permit
from cloudmatch_edge.admission.stay import Stay
from cloudmatch_edge.dialects import base
from cloudmatch_edge.dialects.base import SocketFrame
from cloudmatch_edge.dialects.close_codes import TOO_LARGE, CloseCode
from cloudmatch_edge.dialects.parameters import Parameters
from cloudmatch_edge.dialects.v1 import V1, frame_limits
from cloudmatch_edge.dialects.v1_messages import Welcome
from cloudmatch_edge.relay.device import Device
from unit.edge.fakes import FakeBus, FakeMatches, FakeMatchmaking

FILE = Path(__file__).parents[3] / "edge/conformance/conversations.json"
CONVERSATIONS = [c for c in json.loads(FILE.read_text()) if c.get("only") != "sdk"]
PEER_CONNECTION = 1


def verify(token: str) -> Permit:
    if token != "good":  # noqa: S105  # no password
        raise unauthorized("signature", "forged")
    return Permit(expires=1_796_000_000)


class Server:
    """An edge with one device, whose peer is on `edge-b`: what it writes, and the causes."""

    reading = writable = True
    overfull = False

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

    def host_took_all(self) -> bool:
        return True

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
        told = [cause[name] for name in ("id", "session", "token", "grace", "max_payload")]
        dialect = V1(Welcome(*told, heartbeat=cause.get("heartbeat")))
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
            stay=Stay(Permit(), verify),
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

    def paired_answer(self, cause: Any, matched_connection_id: int) -> DevicePaired:
        return DevicePaired(
            connection_id=self.connection_id,
            match=cause["match"],
            peer=cause["peer"],
            distance=cause["distance"],
            matched_connection_id=matched_connection_id,
            peer_edge="edge-b",
            peer_connection_id=PEER_CONNECTION,
        )

    def resumed(self, cause: Any) -> None:
        if self.device.match is None:
            self.paired(cause, matched_connection_id=self.connection_id - 10)
        if "away" in cause:
            self.peer_away(True)
        assert self.device.match is not None
        position = Position(
            edge="edge-b",
            connection_id=PEER_CONNECTION,
            next=cause["taken"],
            delivered=cause["taken"],
            base=0,
            sent=len(self.sent),
            to=self.connection_id,
        )
        self.device.match.on_position(position)
        self.send_from(self.device.match.inbound.receiver.next)

    def unpaired(self, cause: Any) -> None:
        self.device.on_answer(
            DeviceUnpaired(connection_id=self.connection_id, match=self.number, reason=cause["reason"])
        )

    def peer_away(self, _: Any) -> None:
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

    def token_expires(self, seconds: int) -> None:
        self.written += self.device.dialect.token_expires(seconds)

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


# -- frames and commands


def v1(max_payload: int = 8) -> V1:
    return V1(Welcome("a", "s", "t", 30, max_payload))


def codes(command: base.Command) -> list[str]:
    """Return the error codes of a reply."""
    assert isinstance(command, base.Reply)
    return [shown(frame)["code"] for frame in command.frames]


def test_a_frame_may_be_six_times_as_long_as_its_payload() -> None:
    escaped = json.dumps({"type": "message", "text": "\x01" * 100, "ref": "x" * 128})
    assert 600 < len(escaped) <= frame_limits(100)[0]


def test_payloads_of_one_turn_are_sent_together_with_the_refs_of_their_receipts() -> None:
    frames = [(False, b"\xff"), (True, b'{"type":"message","text":"one","ref":"1"}'), (False, b"")]
    (send,) = v1().parse(frames)
    assert send == base.Send([(False, b"\xff"), (True, b"one"), (False, b"")], [(1, "1")])


def test_commands_keep_their_place_between_payloads() -> None:
    frames = [(False, b"1"), (True, b'{"type":"ack","received":2,"match":7}'), (False, b"2")]
    assert v1().parse(frames) == [
        base.Send([(False, b"1")], []),
        base.Acknowledge(2, 7),
        base.Send([(False, b"2")], []),
    ]


def test_a_binary_frame_of_the_largest_size_is_a_payload_and_a_larger_one_closes() -> None:
    assert v1().parse([(False, b"x" * 8)]) == [base.Send([(False, b"x" * 8)], [])]
    before, close = v1().parse([(False, b"1"), (False, b"x" * 9), (False, b"never")])
    assert before == base.Send([(False, b"1")], [])
    assert isinstance(close, base.Close)
    assert close.code == TOO_LARGE


def test_a_larger_text_is_rejected_and_the_connection_stays_open() -> None:
    too_large = (True, b'{"type":"message","text":"123456789","ref":"1"}')
    rejected, send = v1().parse([too_large, (True, b'{"type":"message","text":"12345678"}')])
    assert codes(rejected) == ["payload_too_large"]
    assert send == base.Send([(True, b"12345678")], [])


def test_nothing_is_parsed_after_a_device_leaves() -> None:
    assert v1().parse([(True, b'{"type":"leave"}'), (False, b"never")]) == [base.Leave()]


def test_an_unknown_reason_is_shown_as_left() -> None:
    (frame,) = v1().peer_left("b", "a reason of tomorrow")
    assert shown(frame) == {"type": "peer_left", "peer": "b", "reason": "left"}


def test_a_gap_is_counted_from_one_and_has_both_ends() -> None:
    (frame,) = v1().gap(3, 5, "lost")
    assert shown(frame) == {"type": "gap", "from": 4, "to": 5, "reason": "lost"}


def test_a_number_that_cannot_be_true_gets_an_error() -> None:
    (frame,) = v1().false_count(1000, 2)
    assert shown(frame) == {"type": "error", "code": "bad_count"}
    assert b"1000" in frame[1]


def test_a_device_that_moves_beyond_what_its_token_allows_gets_an_error() -> None:
    (frame,) = v1().denied("forbidden", "elsewhere")
    assert shown(frame) == {"type": "error", "code": "forbidden"}


def test_a_token_that_expires_is_announced_and_another_one_confirmed() -> None:
    dialect = v1()
    (frame,) = dialect.token_expires(60)
    assert shown(frame) == {"type": "token_expires", "in": 60}
    (frame,) = dialect.renewed(1_796_100_000.25)
    assert shown(frame) == {"type": "token", "expires": 1_796_100_000_250}
    assert dialect.parse([(True, b'{"type":"token","token":"a.b.c"}')]) == [base.Renew("a.b.c")]
    for wrong in (b'""', b'"%b"' % (b"x" * 4097), b"7"):
        (reply,) = dialect.parse([(True, b'{"type":"token","token":%b}' % wrong)])
        assert isinstance(reply, base.Reply)
        assert shown(reply.frames[0]) == {"type": "error", "code": "bad_message"}


def test_a_device_that_sends_too_many_commands_gets_an_error() -> None:
    (frame,) = v1().rate_limited()
    assert shown(frame) == {"type": "error", "code": "rate_limited"}
