"""What must hold of the frames between a device and its edges, whatever happens to its connections."""

import json
from typing import Any

Frame = str | bytes


class Wire:
    """Checks each frame of a device, over all its connections. Payloads of a match are numbered from 1."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.welcomed = False
        self.match: int | None = None
        # payloads that the device has sent
        self.sent: list[Frame] = []
        self.delivered = 0  # how many of them its edge has acknowledged as delivered
        self._next = 0  # how many it has sent, or need not repeat, on this connection
        # payloads that it has received
        self.received = 0
        self._last = 0  # number of the last on this connection
        self._acknowledged = 0

    def on_connect(self, query: dict[str, str]) -> None:
        """The device connects and reports what it has received."""
        received = int(query.get("received", 0)) if "match" in query else 0
        if self.match is not None:
            assert query.get("match") == str(self.match), f"{self.name} has forgotten its match"
        assert received >= self._acknowledged, f"{self.name} has forgotten what it acknowledged"
        assert received == self.received, f"{self.name} reports {received}, has {self.received}"
        self._last = received

    def on_sent(self, frame: Frame) -> None:
        """The device sends a frame."""
        message = {"type": "message"} if isinstance(frame, bytes) else json.loads(frame)
        match message["type"]:
            case "message":
                self._on_payload_sent(frame)
            case "ack":
                assert message["match"] == self.match, f"{self.name} acknowledges another match"
                assert message["received"] >= self._acknowledged, f"an ack of {self.name} fell"
                assert message["received"] <= self.received, f"{self.name} acknowledges too much"
                self._acknowledged = message["received"]
            case "ping":
                pass
            case _:
                raise AssertionError(message)

    def _on_payload_sent(self, frame: Frame) -> None:
        if self._next < len(self.sent):
            assert self.sent[self._next] == frame, f"{self.name} gives a number to another payload"
        else:
            self.sent.append(frame)
        self._next += 1

    def on_received(self, frame: Frame) -> None:
        """The device receives a frame."""
        if isinstance(frame, bytes):
            self._on_payload(self._last + 1)
            return
        message: dict[str, Any] = json.loads(frame)
        match message["type"]:
            case "welcome":
                self.welcomed = True
            case "matched":
                assert self.match is None, f"{self.name} is matched again"
                self.match = message["match"]
            case "resumed":
                assert self.match in (None, message["match"]), f"{self.name} resumes another match"
                self.match = message["match"]
                self._on_delivered(message["received"])
                self._next = self.delivered
            case "message":
                self._on_payload(message["n"])
            case "ack":
                self._on_delivered(message["delivered"])
            case "receipt" | "peer_away" | "peer_back" | "waiting" | "pong":
                pass
            case _:
                raise AssertionError(message)

    def _on_payload(self, number: int) -> None:
        assert self.match is not None, f"{self.name} receives a payload before its match"
        assert number == self._last + 1, f"{self.name} receives {number} after {self._last}"
        self._last = number
        self.received = max(self.received, number)

    def _on_delivered(self, count: int) -> None:
        assert self.delivered <= count, f"delivered payloads of {self.name} fell to {count}"
        assert count <= len(self.sent), f"more of {self.name} is delivered than it has sent"
        self.delivered = count
