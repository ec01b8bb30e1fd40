"""A device in the terminal, or in a pipe: ``cloudmatch connect``."""

import asyncio
import codecs
import os
import sys
import threading
import time
from collections.abc import AsyncIterator

from rich.console import Console
from rich.text import Text

import cloudmatch
from cloudmatch import Device, NotMatchedError, PayloadRefusedError, PeerLeftError

READ = 64 * 1024  # bytes
HELP = "/unmatch  leave this match   /move LAT LON  change position   /quit  leave   //…  send /…"


async def lines(descriptor: int) -> AsyncIterator[str]:
    """Yield the lines of a file, pipe or terminal, without line ends."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str | None] = asyncio.Queue()

    def read() -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        while True:
            try:
                data = os.read(descriptor, READ)
            except OSError:  # the terminal was closed
                data = b""
            *whole, rest = (rest + decoder.decode(data, not data)).split("\n")
            if not data and rest:
                whole.append(rest)
            for line in [*whole, None] if not data else whole:
                loop.call_soon_threadsafe(queue.put_nowait, line)
            if not data:
                return

    # Only a thread can read files, pipes and terminals alike; this one ends with the process.
    threading.Thread(target=read, daemon=True).start()
    while (line := await queue.get()) is not None:
        yield line.removesuffix("\r")


class Terminal:
    """A person or a program using one device.

    Payloads are written to standard output, as bare lines for a program; everything else to standard error.
    """

    def __init__(self, device: Device, listen: bool) -> None:
        self._device = device
        self._events = device.events()  # from before the device connects, so none is missed
        self._listen = listen
        self._person = sys.stdin.isatty()
        self._out = Console(highlight=False, soft_wrap=True)
        self._notes = Console(stderr=True, highlight=False, soft_wrap=True)
        self._sends: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Exchange payloads until the input ends; with `listen`, until the device is closed."""
        self._note(f"connected as {self._device.id}", "green")
        if self._person:
            self._note(HELP, "bright_black")
        watching = asyncio.create_task(self._watch(self._events))
        receiving = asyncio.create_task(self._receive())
        sending = asyncio.create_task(self._send_input())
        try:
            done, _ = await asyncio.wait({receiving, sending}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
            if sending in done and self._listen:
                await receiving
            await self._device.flush()
        finally:
            for task in (watching, receiving, sending, *self._sends):
                task.cancel()
            await asyncio.gather(watching, receiving, sending, *self._sends, return_exceptions=True)

    def _note(self, sentence: str, style: str = "") -> None:
        self._notes.print(Text(sentence, style=style))

    async def _watch(self, events: AsyncIterator[cloudmatch.Event]) -> None:
        async for event in events:
            match event:
                case cloudmatch.Waiting():
                    self._note("waiting for a peer …", "yellow")
                case cloudmatch.Matched(peer):
                    self._note(f"matched with {peer.id}, {peer.distance:,.0f} m away", "bold green")
                case cloudmatch.Disconnected():
                    self._note("connection lost, reconnecting …", "yellow")
                case cloudmatch.Resumed():
                    self._note("reconnected, nothing was lost", "green")
                case cloudmatch.PeerAway(peer):
                    self._note(f"{peer.id} is disconnected; your payloads wait for its return", "yellow")
                case cloudmatch.PeerBack(peer):
                    self._note(f"{peer.id} is connected again", "green")
                case cloudmatch.PeerLeft(peer, reason, undelivered):
                    lost = f"; {len(undelivered)} payloads were not delivered" if undelivered else ""
                    self._note(f"the match with {peer.id} ended ({reason}){lost}", "yellow")
                case cloudmatch.Gap(first, last, reason):
                    self._note(f"payloads {first} to {last} can never arrive: {reason}", "red")
                case cloudmatch.ServerError(code, detail):
                    self._note(f"{code}: {detail}", "red")

    async def _receive(self) -> None:
        async for payload in self._device:
            if isinstance(payload, bytes):
                if self._person:
                    self._out.print(
                        Text(f"{self._peer} ▸ {len(payload)} bytes: {payload[:32].hex(' ')}", "cyan")
                    )
                else:
                    sys.stdout.buffer.write(payload)
                    sys.stdout.buffer.flush()
            elif self._person:
                self._out.print(Text.assemble((f"{self._peer} ▸ ", "cyan"), payload))
            else:
                sys.stdout.write(f"{payload}\n")
                sys.stdout.flush()

    @property
    def _peer(self) -> str:
        return self._device.peer.id if self._device.peer else "(left)"

    async def _send_input(self) -> None:
        async for line in lines(sys.stdin.fileno()):
            if not self._person:
                await self._send_from_program(line)
            elif line.startswith("/") and not line.startswith("//"):
                if line.split() == ["/quit"]:
                    return
                self._execute(line)
            elif line:
                task = asyncio.create_task(
                    self._send_from_person(line.removeprefix("/") if line[:2] == "//" else line)
                )
                self._sends.add(task)
                task.add_done_callback(self._sends.discard)

    async def _send_from_program(self, line: str) -> None:
        """Send a line from a program; if the peer has just left, to the next one."""
        while True:
            await self._device.matched()
            try:
                await self._device.send(line)
            except (NotMatchedError, PeerLeftError):
                continue
            return

    async def _send_from_person(self, line: str) -> None:
        """Send a line from a person; show when it is delivered."""
        began = time.perf_counter()
        try:
            await self._device.send(line, receipt=True)
        except (NotMatchedError, PeerLeftError, PayloadRefusedError) as error:
            self._note(f"not delivered: {error}", "red")
        else:
            self._note(f"  ✓ {(time.perf_counter() - began) * 1000:.1f} ms", "bright_black")

    def _execute(self, line: str) -> None:
        try:
            match line.split():
                case ["/unmatch"]:
                    self._device.unmatch()
                case ["/move", lat, lon]:
                    self._device.move(float(lat), float(lon))
                    self._note(f"now at {float(lat)}, {float(lon)}", "bright_black")
                case _:
                    self._note(HELP, "bright_black")
        except (ValueError, NotMatchedError) as error:
            self._note(str(error), "red")
