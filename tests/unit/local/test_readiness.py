"""When `make up` says that everything is ready."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cloudmatch_local.plan import Listener, Plan
from cloudmatch_local.readiness import wait_and_show

answers: list[tuple[int, object]] = []  # of the probe; the last one stays


@pytest.fixture
def port() -> Iterator[int]:
    """Port of a probe that gives `answers`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, reasons = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps({"ready": status == 200, "reasons": reasons}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield server.server_address[1]
        server.shutdown()


def test_a_full_edge_is_ready_and_one_without_a_bus_is_not(
    port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    full, no_bus = {"devices": "full: 2 of 2 devices"}, {"nats": "not connected to NATS"}
    answers[:] = [(503, no_bus), (503, full | no_bus), (503, full)]
    wait_and_show(Plan({}, [Listener("edge.1", port, "CLOUDMATCH_EDGE_PORT", scheme="http")], [], "", ""))
    assert "CloudMatch is ready after" in capsys.readouterr().out
    assert answers == [(503, full)]
