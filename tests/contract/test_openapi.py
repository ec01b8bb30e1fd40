"""Services answer as their OpenAPI documents say: Schemathesis asks what these allow, and what they do not.

More, with a seed that a failure prints: ``pytest tests/contract/test_openapi.py --fuzz-seed 7``.
"""

import asyncio
import logging
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar import Litestar

from cloudmatch_bus.process.http import serve
from cloudmatch_bus.process.listen import listen
from harness.processes import BIN

DOCUMENTED = ("journal", "engine", "analytics")
EXAMPLES = 20  # for each operation, at most
# Not: whether what the document allows is accepted. It cannot say what parameters mean together.
CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_headers_conformance", "response_schema_conformance"),
    *("unsupported_method", "allow_header_conformance"),
)


@pytest.fixture
def urls(services: dict[str, Litestar]) -> Iterator[dict[str, str]]:
    """Serve the applications; return their URLs."""
    sockets = {name: listen("127.0.0.1", 0, "") for name in DOCUMENTED}
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def serve_all() -> None:
        await asyncio.gather(*(serve(services[name], name, [sockets[name]], stop) for name in DOCUMENTED))

    thread = threading.Thread(target=loop.run_until_complete, args=(serve_all(),))
    thread.start()
    yield {name: f"http://127.0.0.1:{sock.getsockname()[1]}" for name, sock in sockets.items()}
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


@pytest.mark.timeout(300)  # 15 s where nothing else runs
def test_every_answer_is_documented(
    urls: dict[str, str], tmp_path: Path, pytestconfig: pytest.Config, caplog: pytest.LogCaptureFixture
) -> None:
    seed = pytestconfig.getoption("--fuzz-seed")
    options = {
        "--seed": str(seed),
        "--checks": ",".join(CHECKS),
        "--phases": "examples,coverage,fuzzing",
        "--max-examples": str(EXAMPLES),
        "--generation-database": "none",
        "--suppress-health-check": "all",
        "--warnings": "off",
    }
    arguments = [each for option in options.items() for each in option]
    before = os.times()
    runs = {
        service: subprocess.Popen(
            [BIN / "schemathesis", "run", f"{url}/schema/openapi.json", "--no-color", *arguments],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for service, url in urls.items()
    }
    found = {service: run.communicate()[0] for service, run in runs.items()}
    after = os.times()
    print(f"seed {seed}: {after.children_user - before.children_user:.0f} s of CPU")  # noqa: T201 # shown with -s
    for service, run in runs.items():
        assert run.returncode == 0, f"{service}, seed {seed}:\n{found[service]}"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
