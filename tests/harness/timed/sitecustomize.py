"""Loaded at the start of services with `harness.turns.settings`: measures turns of their event loop.

A timer that is due every ms fires at the start of a turn. So the CPU time between two of its calls is about
that of the turn between them, or of a few short ones.
"""

import asyncio
import os
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import uvloop

INTERVAL = 0.001  # s
NOTED = 0.005  # s of CPU, from which a turn is written down
_run = uvloop.run


async def _measured(main: Coroutine[Any, Any, Any], file: Path) -> None:
    loop = asyncio.get_running_loop()
    last = time.thread_time()

    def tick() -> None:
        nonlocal last
        now = time.thread_time()
        if now - last > NOTED:
            with file.open("a") as lines:
                lines.write(f"{time.monotonic()} {now - last}\n")
            now = time.thread_time()
        last = now
        loop.call_later(INTERVAL, tick)

    tick()
    await main


def run(main: Coroutine[Any, Any, Any], **more: Any) -> None:
    """Run an event loop as `uvloop.run` does, and measure its turns."""
    _run(_measured(main, Path(os.environ["TURNS_FILE"])), **more)


uvloop.run = run
