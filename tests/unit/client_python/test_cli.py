"""The command `cloudmatch`: its output on success and on failure."""

import asyncio
import contextlib
import email.utils
import json
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner

from cloudmatch.cli import doctor
from cloudmatch.cli.commands import command
from cloudmatch.cli.swarm_stats import SwarmStats
from cloudmatch.cli.terminal import lines
from cloudmatch.cli.words import duration

NOWHERE = "http://127.0.0.1:1"


def cloudmatch(*words: str) -> tuple[int, str]:
    """Run the command; return its exit code and output, with runs of white space collapsed."""
    result = CliRunner().invoke(command, words, env={"COLUMNS": "200"})
    return result.exit_code, " ".join(result.output.split())


@contextlib.contextmanager
def answering(answers: dict[str, tuple[int, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Serve JSON, or bytes, by path; yield the URL and the requests."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, body = answers.get(self.path.partition("?")[0], (404, None))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


@pytest.mark.parametrize(
    "words", [(), *((c,) for c in ("connect", "swarm", "state", "windows", "cluster", "doctor"))]
)
def test_help_names_every_option(words: tuple[str, ...]) -> None:
    code, output = cloudmatch(*words, "--help")
    assert code == 0
    for option in {"connect": ["--id", "--listen", "CLOUDMATCH_URL"], "swarm": ["--drop"]}.get(
        "".join(words), []
    ):
        assert option in output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("connect", "--id", "a", "--url", "nonsense"), "a server's URL looks like http://127.0.0.1:8080"),
        (("connect", "--id", "a", "--lat", "91"), "Invalid value for '--lat'"),
        (("connect",), "Missing option '--id'"),
        (("state", "a", "--journal", NOWHERE), "http://127.0.0.1:1 does not answer: [Errno 111]"),
        (("windows", "--analytics", NOWHERE), "http://127.0.0.1:1 does not answer: [Errno 111]"),
        (("cluster", "--match-engine", NOWHERE), "http://127.0.0.1:1 does not answer: [Errno 111]"),
        (("windows", "--analytics", "nonsense"), "nonsense does not answer: unknown url type"),
        (("swarm", "--devices", "1"), "Invalid value for '--devices'"),
    ],
)
def test_errors_are_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    code, output = cloudmatch(*words)
    assert code in (1, 2)
    assert sentence in output
    assert "Traceback" not in output


def test_state_shows_a_device_as_the_journal_has_it() -> None:
    known = {"deviceId": "a/b", "connectionsOpen": 1, "bytesSent": 4, "lastSeen": 1_000}
    missing = "deviceId x could not be found"  # all other errors have the shape of the next one
    broken = {"error": {"code": "internal", "detail": "see the log"}}
    answers = {"a%2Fb": (200, known), "x": (404, missing), "y": (500, broken), "z": (502, ["?"])}
    with answering({f"/device/state/{name}": answer for name, answer in answers.items()}) as (url, asked):
        code, output = cloudmatch("state", "a/b", "--app", "demo", "--journal", url)
        assert code == 0
        assert "bytesSent │ 4" in output
        assert "lastSeen │ 1970-01-01" in output or "lastSeen │ 1969-12-31" in output
        assert asked == ["/device/state/a%2Fb?app=demo"]
        code, output = cloudmatch("state", "x", "--journal", url)
        assert (code, output) == (1, "deviceId x could not be found.")
        code, output = cloudmatch("state", "y", "--journal", url)
        assert (code, output) == (1, "see the log.")
        code, output = cloudmatch("state", "z", "--journal", url)
        assert (code, output.partition("answered ")[2][:3]) == (1, "502")


def test_windows_shows_each_window_with_a_bar() -> None:
    closed = [
        {"start": 10_000, "end": 20_000, "bytes": 1234, "messages": 7},
        {"start": 20_000, "end": 30_000, "bytes": 0, "messages": 0},
    ]
    with answering({"/windows": (200, closed)}) as (url, asked):
        code, output = cloudmatch("windows", "--analytics", url, "--last", "2", "--device", "a")
    assert code == 0
    assert f"7 │ 1,234 │ {'█' * 30}" in output
    assert asked == ["/windows?size=10s&device=a&last=2"]


EDGE = {
    "name": "edge-[0]",
    "state": "alive",
    "age": 372.4,
    "heard": 0.3,
    "version": "1.0",
    "load": 0.256,
    "devices": 1234,
    "max_devices": 2000,
    "matched": 1000,
    "waiting": 234,
    "away": 5,
    "releasing": 0,
}
DEAD = {
    **EDGE,
    **dict.fromkeys(("age", "version", "load", "devices", "max_devices")),
    "name": "edge-1",
    "state": "dead",
    "heard": 42.0,
    "releasing": 7,
}
WORKER = {
    "name": "w-1",
    "state": "alive",
    "age": 90_000.0,
    "heard": 0.1,
    "version": "1.0",
    "load": 1.0,
    "partitions": 128,
    "devices": 1239,
}
DEAD_PROBLEM = {"kind": "dead", "sentence": "Edge edge-1 is dead.", "advice": "Start it again."}
CLUSTER = {
    "answered_by": "w-1",
    "isolated": False,
    "edges": [EDGE, DEAD],
    "workers": [WORKER, {**WORKER, "name": "w-2", "state": "silent", "heard": None}],
    "problems": [DEAD_PROBLEM],
    "device": None,
}
MATCHED = {
    "app": "demo",
    "id": "[a]",
    "edge": "edge-0",
    "state": "matched",
    "since": 1_000,
    "match": 17,
    "peer": "b",
    "peer_edge": "edge-2",
}


def test_cluster_shows_edges_workers_and_what_is_wrong() -> None:
    with answering({"/cluster": (200, CLUSTER)}) as (url, asked):
        code, output = cloudmatch("cluster", "--match-engine", url)
    assert code == 0
    assert asked == ["/cluster"]
    assert "edge-[0] │ alive │ 1.0 │ 6 min 12 s │ 0.3 s │ 26% │ 1,234 of 2,000 │ 1,000 │ 234 │ 5 │" in output
    assert "edge-1 │ dead, 7 to release │ – │ – │ 42 s │ – │ – │" in output
    assert "w-1 (answered) │ alive │ 1.0 │ 1 d 1 h │ 0.1 s │ 100% │ 128 │ 1,239 │" in output
    assert "w-2 │ silent │" in output
    assert "! Edge edge-1 is dead. → Start it again." in output
    with answering({"/cluster": (200, {**CLUSTER, "isolated": True})}) as (url, _):
        assert "w-1 (isolated)" in cloudmatch("cluster", "--match-engine", url)[1]


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        (
            MATCHED,
            "[a] has been connected to edge edge-0 since DATE. It is in match 17 with b on edge edge-2.",
        ),
        (
            {**MATCHED, "state": "waiting", "match": None, "peer": None, "peer_edge": None},
            "[a] has been connected to edge edge-0 since DATE and waits for a peer.",
        ),
        (
            {**MATCHED, "state": "away", "peer_edge": None},
            "[a] has been disconnected since DATE; edge edge-0 held it last. It is in match 17 with b.",
        ),
    ],
)
def test_cluster_says_where_a_device_is(device: dict[str, Any], sentence: str) -> None:
    with answering({"/cluster": (200, {**CLUSTER, "device": device})}) as (url, asked):
        code, output = cloudmatch("cluster", "--id", "[a]", "--app", "demo", "--match-engine", url)
    assert code == 0
    assert asked == ["/cluster?id=%5Ba%5D&app=demo"]
    assert sentence in re.sub(r"[\d-]{10} [\d:]{8}", "DATE", output)


def test_cluster_prints_json_and_names_what_is_no_match_engine() -> None:
    missing = {"error": {"code": "not_found", "detail": "no device 'x' is connected in app 'default'"}}
    with answering({"/cluster": (200, CLUSTER)}) as (url, _):
        code, output = cloudmatch("cluster", "--json", "--match-engine", url)
    assert code == 0
    assert json.loads(output) == CLUSTER
    with answering({"/cluster": (404, missing)}) as (url, _):
        assert cloudmatch("cluster", "--id", "x", "--match-engine", url) == (
            1,
            "no device 'x' is connected in app 'default'.",
        )
    with answering({"/cluster": (200, [])}) as (url, _):
        code, output = cloudmatch("cluster", "--match-engine", url)
    assert (code, output) == (1, f"{url} is no match-engine, or one of an older version.")


def test_the_doctor_counts_who_is_alive_and_reports_each_problem() -> None:
    conflict = {"kind": "conflict", "sentence": "Two edges are named edge-0.", "advice": "Rename one."}
    with answering({"/cluster": (200, {**CLUSTER, "problems": [DEAD_PROBLEM, conflict]})}) as (url, _):
        good, dead, both = doctor.cluster(url)
    assert (good.state, good.found) == (doctor.State.GOOD, "1 edge and 1 worker alive")
    assert (dead.state, dead.found, dead.advice) == (
        doctor.State.WARNING,
        "Edge edge-1 is dead.",
        "Start it again.",
    )
    assert both.state is doctor.State.BAD
    assert doctor.cluster(NOWHERE) == [], "that it does not answer is another finding"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (3725, "1 h 2 min"), (90_000, "1 d 1 h")],
)
def test_durations_have_at_most_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_trace_without_the_tracer_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "/nowhere")
    code, output = cloudmatch("trace", "a")
    assert code == 1
    assert "It comes with cloudmatch-bus" in output


def test_doctor_gives_advice_for_every_missing_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TIMEOUT", 0.3)
    urls = ("--url", "--journal", "--analytics", "--match-engine", "--bridge")
    servers = ("--nats", "nats://127.0.0.1:1", "--amqp", "amqp://127.0.0.1:1")
    code, output = cloudmatch("doctor", *(word for url in urls for word in (url, NOWHERE)), *servers)
    assert code == 1
    for part in (
        "edge",
        "journal",
        "analytics",
        "match-engine",
        "bridge-rabbit",
        "NATS",
        "RabbitMQ",
        "two devices",
    ):
        assert f"✗ │ {part}" in output
    assert "8 of 9 checks failed" in output


def test_a_service_that_is_not_ready_gives_its_reason() -> None:
    reasons = {"ready": False, "reasons": {"bus": "not connected"}}
    with answering({"/system/readiness": (503, reasons)}) as (url, _):
        [found] = doctor.service("journal", url)
    assert (found.state, found.found) == (doctor.State.BAD, "not ready: bus: not connected")
    with answering({}) as (url, _):
        [found] = doctor.service("journal", url)
    assert found.state is doctor.State.BAD


@pytest.mark.parametrize(("lag", "words"), [("3.0", None), ("312.4", "312 s behind")])
def test_the_doctor_warns_when_one_message_per_payload_lags(lag: str, words: str | None) -> None:
    metrics = f"# HELP x\n{doctor.SINGLES_LAG} {lag}\nother 1.0\n".encode()
    with answering({"/metrics": (200, metrics)}) as (url, _):
        found = doctor.singles(url)
    assert [each.state for each in found] == ([doctor.State.WARNING] if words else [])
    assert all(str(words) in each.found for each in found)


def test_a_bridge_that_does_not_say_how_far_it_lags_is_another_finding() -> None:
    assert doctor.singles(NOWHERE) == []
    with answering({}) as (url, _):
        assert doctor.singles(url) == []
    with answering({"/metrics": (200, b"other 1.0\n")}) as (url, _):
        assert doctor.singles(url) == []


@pytest.mark.parametrize(("ahead", "words"), [(0, None), (90, "90 s ahead of"), (-3600, "3600 s behind")])
def test_a_skewed_clock_is_reported(ahead: float, words: str | None) -> None:
    now = time.time()
    found = doctor.skew("journal", email.utils.formatdate(int(now) + ahead, usegmt=True), now)
    assert (found is None) == (words is None)
    assert found is None or (words in found.found and found.state is doctor.State.WARNING)
    assert doctor.skew("journal", None, now) is None
    assert doctor.skew("journal", "yesterday", now) is None


@pytest.mark.parametrize(
    ("greeting", "state", "words"),
    [
        (b'INFO {"version":"2.15.1","jetstream":true}\r\n', doctor.State.GOOD, "NATS 2.15.1"),
        (b'INFO {"version":"2.15.1"}\r\n', doctor.State.BAD, "no JetStream"),
        (b"HTTP/1.1 400 Bad Request\r\n", doctor.State.BAD, "is not a NATS server"),
        (b"", doctor.State.BAD, "is not a NATS server"),
    ],
)
async def test_nats_is_recognized_by_its_greeting(greeting: bytes, state: doctor.State, words: str) -> None:
    async with greeting_server(greeting) as port:
        [found] = await doctor.nats(f"nats://user:secret@127.0.0.1:{port}")
    assert (found.state, words in found.found) == (state, True)
    assert "secret" not in found.found + found.advice


@pytest.mark.parametrize(
    ("greeting", "state", "words"),
    [
        (
            b"\x01\x00\x00\x00\x00\x01\x00\x00\x0a\x00\x0a\x07versionS\x00\x00\x00\x064.1.10\xce",
            doctor.State.GOOD,
            "RabbitMQ 4.1.10",
        ),
        (b"HTTP/1.1 400 Bad Request\r\n", doctor.State.BAD, "is not a RabbitMQ server"),
        (b"", doctor.State.BAD, "does not answer"),
    ],
)
async def test_rabbitmq_is_recognized_by_its_greeting(
    greeting: bytes, state: doctor.State, words: str
) -> None:
    async with greeting_server(greeting) as port:
        [found] = await doctor.rabbitmq(f"amqp://user:secret@127.0.0.1:{port}/")
    assert (found.state, words in found.found) == (state, True)
    assert "secret" not in found.found + found.advice


@contextlib.asynccontextmanager
async def greeting_server(greeting: bytes) -> AsyncIterator[int]:
    """Send a few bytes to every client; yield the port."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.write_eof()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        served.set()

    served = asyncio.Event()
    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        await served.wait()


def test_the_swarm_finds_payloads_lost_duplicated_or_out_of_order() -> None:
    stats = SwarmStats()
    for _ in range(6):
        stats.send(7, "a")
    for number in (1, 2, 2, 4):
        stats.receive(7, "a", number, 0.001 * number)
    assert (stats.lost, stats.faults, stats.counts["received"]) == (2, 2, 4)
    assert (stats.latency(0.5), stats.latency(0.99)) == (0.002, 0.004)
    stats.fail(7, "a", 2)
    assert stats.lost == 0
    stats.send(7, "a")
    stats.undo(7, "a")
    assert (stats.lost, stats.counts["sent"]) == (0, 6)


async def test_lines_are_complete_however_they_arrive() -> None:
    inner, outer = os.pipe()

    async def read() -> list[str]:
        return [line async for line in lines(inner)]

    reading = asyncio.create_task(read())
    for byte in "ciao\r\n\nciào 😀\nno end".encode():
        os.write(outer, bytes([byte]))
        await asyncio.sleep(0)
    os.close(outer)
    assert await reading == ["ciao", "", "ciào 😀", "no end"]
    os.close(inner)
