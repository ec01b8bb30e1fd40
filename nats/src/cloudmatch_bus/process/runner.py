"""Run a service: settings, logging, uvloop, signals. Every ``__main__`` calls `run`."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any, TextIO, TypeVar

import uvloop

from cloudmatch_bus.process.descriptors import raise_limit
from cloudmatch_bus.process.log_lines import Brake, LineFormatter
from cloudmatch_bus.process.settings import CommonSettings, Settings, SettingsError, read, unknown

S = TypeVar("S", bound=Settings)
T = TypeVar("T")
log = logging.getLogger("service")


class Environment:
    """All settings of one process, read from the environment and checked."""

    def __init__(self, *groups: type[Settings], environ: Mapping[str, str]) -> None:
        required: tuple[type[Settings], ...] = (CommonSettings, *groups)
        self._groups = {group: read(group, environ) for group in required}
        for each in self._groups.values():
            each.check()
        self.unknown = unknown(self._groups, environ)

    def __getitem__(self, group: type[S]) -> S:
        settings = self._groups[group]
        assert isinstance(settings, group)
        return settings


@contextlib.contextmanager
def exit_on_settings_error() -> Iterator[None]:
    """Exit with status 2 and a sentence on stderr if a setting is invalid."""
    try:
        yield
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None


def setup(*groups: type[Settings], stream: TextIO = sys.stdout) -> Environment:
    """Read the settings, set up logging and raise the limit of open files; exit if a setting is invalid.

    Files that the process makes are its user's alone.
    """
    os.umask(0o077)
    with exit_on_settings_error():
        environment = Environment(*groups, environ=os.environ)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter("%(levelname)s %(name)s: %(message)s"))
    handler.addFilter(Brake())
    logging.basicConfig(level=environment[CommonSettings].log_level, handlers=[handler])
    # else they log every probe, or whatever is no request
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("websockets").setLevel(logging.WARNING)
    for name in environment.unknown:
        log.warning("unknown setting: %s", name)
    raise_limit()
    return environment


async def until_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Return the result of `work`; cancel it and return None if `stop` is set first."""
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return await task if task.done() else None
    finally:
        task.cancel()
        stopped.cancel()


def run(serve: Callable[[Environment, asyncio.Event], Awaitable[None]], *groups: type[Settings]) -> None:
    """Run `serve(environment, stop)` on uvloop until it returns; SIGTERM and SIGINT set `stop`.

    A `SettingsError` raised by `serve`, as of a port in use, exits like an invalid setting.
    """
    environment = setup(*groups)

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await serve(environment, stop)

    gc.freeze()  # imported modules live for ever: exclude them from collections
    with exit_on_settings_error():
        uvloop.run(main())
