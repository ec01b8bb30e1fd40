"""The conversation in edge/docs/without-an-sdk.md, run against a real server."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from harness import NatsServer, Service

Start = Callable[..., Service]
pytestmark = pytest.mark.servers
PAGE = (Path(__file__).parents[2] / "edge/docs/without-an-sdk.md").read_text(encoding="utf-8")
LINES = [
    line
    for block in re.findall(r"^```transcript\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
CHANGING = ("session", "resume", "match", "since")  # values that differ in each run
PRESENCE = ("peer_away", "peer_back")  # may be sent more often than the page shows
TEXT = ("detail",)  # for people: any text matches


class Devices:
    """The page's devices on real sockets; maps the page's changing values to the server's."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("http", "ws")
        self.sockets: dict[str, ClientConnection] = {}
        self._real: dict[str, str] = {}

    def real(self, line: str) -> str:
        for written in sorted(self._real, key=len, reverse=True):
            line = line.replace(written, self._real[written])
        return line

    async def step(self, line: str) -> None:
        name, what, rest = [*line.split(" ", 2), ""][:3]
        if what == "connects":
            v1 = [Subprotocol("cloudmatch.v1")]
            self.sockets[name] = await connect(self._url + self.real(rest), subprotocols=v1)
            return
        socket = self.sockets[name]
        binary = bytes.fromhex(rest.removeprefix("binary ")) if rest.startswith("binary ") else None
        match what:
            case "drops":
                socket.transport.abort()
            case "closed":
                await asyncio.wait_for(socket.wait_closed(), 10)
                assert socket.close_code == int(rest)
            case "→":
                await socket.send(self.real(rest) if binary is None else binary)
            case "←":
                await self.expect(socket, rest if binary is None else binary)
            case _:
                raise AssertionError(f"unknown step: {line}")

    async def expect(self, socket: ClientConnection, wanted: str | bytes) -> None:
        while True:
            received = await asyncio.wait_for(socket.recv(), 10)
            if isinstance(wanted, bytes) or isinstance(received, bytes):
                assert received == wanted
                return
            frame, page = json.loads(received), json.loads(wanted)
            if frame["type"] == page["type"] or frame["type"] not in PRESENCE:
                self.compare(page, frame)
                return

    def compare(self, written: dict[str, Any], received: dict[str, Any]) -> None:
        assert list(written) == list(received)
        for name in written:
            if name in CHANGING:
                known = self._real.setdefault(str(written[name]), str(received[name]))
                assert known == str(received[name])
            elif name in TEXT:
                assert received[name]
            else:
                assert written[name] == received[name]


async def test_the_conversation_on_the_page_is_what_a_server_does(
    nats_server: NatsServer, start: Start
) -> None:
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    start("match-engine", bus)
    devices = Devices(start("edge", bus).url)
    assert len(LINES) > 30
    try:
        for line in LINES:
            try:
                await devices.step(line)
            except BaseException as error:
                error.add_note(f"at: {line}")
                raise
    finally:
        for socket in devices.sockets.values():
            await socket.close()
