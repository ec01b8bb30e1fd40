"""`make up` starts everything, shows where it is, and ends all of it together."""

import asyncio
import contextlib
import json
import os
import re
import signal
import stat
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import aio_pika.exceptions
import nats
import pytest

from cloudmatch_bus.client.connection import PERMISSIONS_VIOLATION
from cloudmatch_bus.contract import amqp_batches, amqp_set_aside
from cloudmatch_bus.process.listen import listen
from cloudmatch_bus.process.settings import SettingsError
from harness import BIN, Process, alive, eventually_sync, free_port, nats_server

pytestmark = pytest.mark.servers

NAMES = (
    *("CLOUDMATCH_EDGE_PORT", "CLOUDMATCH_JOURNAL_PORT", "CLOUDMATCH_MATCH_ENGINE_PORT"),
    *("CLOUDMATCH_BRIDGE_RABBIT_PORT", "CLOUDMATCH_ANALYTICS_PORT", "CLOUDMATCH_NATS_PORT"),
    *("CLOUDMATCH_AMQP_PORT", "CLOUDMATCH_KAFKA_PORT", "CLOUDMATCH_LOCAL_NATS_MONITORING_PORT"),
)


@pytest.fixture
def up(tmp_path):
    """Start `up` with arguments and settings, on free ports; no process of it outlives the test."""
    processes = []

    def begin(*arguments: str, stdout: int | None = None, **settings: str) -> Process:
        environ = {name: str(free_port()) for name in NAMES}
        environ |= {"CLOUDMATCH_RUN_DIR": str(tmp_path / "run")} | settings
        command = [sys.executable, "-m", "cloudmatch_local.up", *arguments]
        processes.append(Process("up", command, environ, tmp_path, stdout))
        return processes[-1]

    yield begin
    for process in processes:
        process.terminate()
    for pid in alive(tmp_path / "run"):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.usefixtures("rabbitmq")  # skips, or fails in CI, where it is not installed
def test_everything_is_ready_at_the_urls_shown_and_ctrl_c_ends_all_of_it(up, tmp_path):
    process = up("--edges", "2", "--workers", "2")
    process.wait_line("is ready after", 60)
    eventually_sync(lambda: "└" in process.log, 20, "the table")
    pages = re.findall(r"│ (http://\S+) ", process.log)
    assert len(pages) == 2 + 2 + 1 + 1 + 1 + 2  # edges, workers, journal, bridge, NATS, analytics
    for page in pages:
        with urllib.request.urlopen(page, timeout=5) as answer:  # noqa: S310 # http, on loopback
            assert answer.status == 200
    assert len(re.findall(r"│ ws://\S+/device/connect\?", process.log)) == 2
    every_service_may_be_read_by_the_pages_of(re.findall(r"dev client +│ (http://\S+)/ ", process.log))
    asyncio.run(the_bus_knows_who_may_use_it(process, tmp_path / "run"))

    process.signal(signal.SIGINT)
    assert process.wait(30) == 0, process.tail()
    eventually_sync(lambda: not alive(tmp_path / "run"), 10, "the end of every process")
    assert "Traceback" not in process.log


async def the_bus_knows_who_may_use_it(up: Process, folder: Path) -> None:
    (server,) = re.findall(r"│ (nats://\S+)", up.log)
    port = server.rpartition(":")[2]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    writer.write(b"CONNECT {}\r\nPING\r\n")
    assert b"-ERR 'Authorization Violation'" in await reader.read()
    writer.close()
    for name in ("edge.1", "edge.2", "match-engine.1", "match-engine.2", "journal.1", "bridge-rabbit.1"):
        file = folder / "keys" / f"{name}.creds"
        await (await nats.connect(server, user_credentials=str(file))).close()
    for path in (folder, *(folder / "keys").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    with pytest.raises(aio_pika.exceptions.AMQPConnectionError):
        await aio_pika.connect("amqp://guest:guest@" + re.findall(r"│ amqp://(\S+)", up.log)[0])
    await analytics_reads_and_says_nothing((folder / "keys/analytics.amqp").read_text().strip())
    person = await nats.connect(server, user_credentials=str(folder / "keys/people/operator.creds"))
    try:
        answer = json.loads((await person.request("cm.v1.sys.cluster", b"{}", timeout=5)).data)
    finally:
        await person.close()
    assert [edge["name"] for edge in answer["edges"]] == ["edge-0", "edge-1"]
    names = [worker["name"] for worker in answer["workers"]]
    assert [name.partition("/")[0] for name in names] == ["match-engine-0", "match-engine-1"]
    assert PERMISSIONS_VIOLATION not in up.log.lower()
    settings = {"CLOUDMATCH_NATS_PORT": port, "CLOUDMATCH_RUN_DIR": str(folder)}
    tracer = Process("trace", [BIN / "cloudmatch-trace"], settings, folder)
    tracer.wait_line("listening at")
    tracer.terminate()


async def analytics_reads_and_says_nothing(url: str) -> None:
    """Everything that both services declare is there; RabbitMQ closes a channel that asks for too much."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.get_queue(amqp_batches.QUEUE)
        exchange = await channel.get_exchange(amqp_batches.EXCHANGE)
        with pytest.raises(aio_pika.exceptions.AMQPChannelError, match="ACCESS_REFUSED"):
            await exchange.publish(aio_pika.Message(b"{}"), "default")
        channel = await connection.channel()
        with pytest.raises(aio_pika.exceptions.AMQPChannelError, match="ACCESS_REFUSED"):
            await (await channel.get_queue(amqp_set_aside.QUEUE)).get(fail=False)


def every_service_may_be_read_by_the_pages_of(edges: list[str]) -> None:
    assert len(edges) == 2
    for edge in edges:
        with urllib.request.urlopen(f"{edge}/services.json", timeout=5) as answer:  # noqa: S310 # http, on loopback
            services = json.load(answer)["services"]
        assert {name: len(urls) for name, urls in services.items()} == {
            **dict.fromkeys(("journal", "bridge-rabbit", "analytics"), 1),
            **dict.fromkeys(("edge", "match-engine"), 2),
        }
        for url in (url for urls in services.values() for url in urls):
            request = urllib.request.Request(f"{url}/system/readiness", headers={"Origin": edge})  # noqa: S310 # the same
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 # the same
                assert answer.headers["Access-Control-Allow-Origin"] in (edge, "*")


@pytest.mark.usefixtures("rabbitmq")
def test_whatever_dies_is_named_and_started_again_and_a_taken_port_ends_everything(up, tmp_path):
    process = up("--edges", "2")
    process.wait_line("is ready after", 60)
    pages = re.findall(r"│ (http://[^/ ]+)", process.log)
    started = by_name(tmp_path / "run")
    assert len(started) == 9
    for pid in started.values():
        os.kill(pid, signal.SIGKILL)
    for name in started:
        process.wait_line(rf"{name} +\| ended unexpectedly \(exit -9\); starts again in 0.5 s", 10)
    eventually_sync(lambda: by_name(tmp_path / "run").keys() == started.keys(), 20, "all started again")
    for page in pages:
        eventually_sync(lambda page=page: ready(page), 60, page)

    port = urlsplit(re.findall(r"dev client +│ (http://\S+)/ ", process.log)[1]).port
    with taken_from("edge.2", port, tmp_path / "run"):
        assert process.wait(40) == 1
    assert re.search(rf"edge.2 +\| cannot listen on 127.0.0.1:{port}", process.log), process.tail()
    assert "edge.2 (exit 2) cannot run; everything was stopped" in process.log
    eventually_sync(lambda: not alive(tmp_path / "run"), 10, "the end of every process")


def by_name(folder: Path) -> dict[str, int]:
    """Pid of each running process of the Procfile, by name; not of their helpers."""
    found = {}
    for pid, command in alive(folder).items():
        name = "rabbitmq.1" if "beam.smp" in command else honcho_name(pid)
        if name and os.getsid(pid) == pid:
            found[name] = pid
    return found


def ready(page: str) -> bool:
    try:
        with urllib.request.urlopen(f"{page}/system/readiness", timeout=5) as answer:  # noqa: S310 # http, on loopback
            return answer.status == 200
    except urllib.error.HTTPError as error:
        return error.code == 404  # NATS, which answers
    except OSError:
        return False


@contextlib.contextmanager
def taken_from(name: str, port: int, folder: Path) -> Iterator[None]:
    """Listen on the port of a process, which is killed until it lets go of it."""
    with contextlib.ExitStack() as stack:

        def take() -> bool:
            if pid := by_name(folder).get(name):
                os.kill(pid, signal.SIGKILL)
            try:
                stack.enter_context(listen("127.0.0.1", port, ""))
            except SettingsError:
                return False
            return True

        eventually_sync(take, 20, f"port {port} is free")
        yield


@pytest.mark.parametrize("moment", [0.3, 0.8, 1.5])
@pytest.mark.usefixtures("rabbitmq")
def test_sigterm_ends_everything_even_during_the_start(up, moment, tmp_path):
    process = up()
    process.wait_line("starting 8 processes")
    time.sleep(moment)  # no output marks this moment
    process.signal(signal.SIGTERM)
    assert process.wait(30) == 0
    eventually_sync(lambda: not alive(tmp_path / "run"), 10, "the end of every process")


@pytest.mark.parametrize(
    ("channel", "moment"), [(os.pipe, "starting 8 processes"), (os.pipe, "└"), (os.openpty, "└")]
)
@pytest.mark.usefixtures("rabbitmq")
def test_when_stdout_is_closed_everything_ends(up, channel, moment, tmp_path):
    reading, printing = channel()
    process = up(stdout=printing)
    os.close(printing)
    os.set_blocking(reading, False)
    printed = b""

    def seen() -> bool:
        nonlocal printed
        with contextlib.suppress(BlockingIOError):
            printed += os.read(reading, 65536)
        return moment.encode() in printed

    eventually_sync(seen, 60, moment)
    os.close(reading)  # as when the reader of a pipe ends or a terminal is closed
    assert process.wait(30) == 0, process.tail()
    assert process.log == "stdout was closed; stopping\n"
    eventually_sync(lambda: not alive(tmp_path / "run"), 10, "the end of every process")


LEGACY = tuple(f"CLOUDMATCH_{each}_LEGACY_PORT" for each in ("EDGE", "JOURNAL", "ANALYTICS"))


def test_with_legacy_ports_those_that_are_free_are_served_and_a_taken_one_is_a_warning(
    up, amqp_url, tmp_path
):
    with nats_server() as bus, listen("127.0.0.1", 0, "") as taken:
        ports = {name: free_port() for name in LEGACY} | {LEGACY[1]: taken.getsockname()[1]}
        servers = {"CLOUDMATCH_NATS_URL": bus.url, "CLOUDMATCH_AMQP_URL": amqp_url}
        legacy = {name: str(port) for name, port in ports.items()}
        process = up("--legacy-ports", "1", "--edges", "2", "--workers", "2", **servers, **legacy)
        process.wait_line("is ready after", 60)
        eventually_sync(lambda: "└" in process.log, 20, "the table")
        (warning,) = re.findall(r"^warning: .*", process.log, re.MULTILINE)
        assert warning == (
            f"warning: journal.1 cannot listen on 127.0.0.1:{ports[LEGACY[1]]} (Address already in use): "
            f"change {LEGACY[1]}, or stop the process that is listening there"
        )
        shown = re.findall(r"\(2019\) +│ (\S+)", process.log)
        edge, analytics = (f"127.0.0.1:{ports[LEGACY[i]]}" for i in (0, 2))
        connecting = f"ws://{edge}/device/connect?id=a&lat=52.37&lon=4.89"
        assert shown == [
            f"http://{edge}/",
            connecting,
            f"http://{analytics}/",
            f"http://{analytics}/schema",
        ]
        for page in (url for url in shown if url.startswith("http")):
            with urllib.request.urlopen(page, timeout=5) as answer:  # noqa: S310 # http, on loopback
                assert answer.status == 200
        every_service_may_be_read_by_the_pages_of(
            [f"http://{edge}", f"http://{edge}".replace("127.0.0.1", "localhost")]
        )


def test_without_legacy_ports_a_taken_second_port_is_an_error_like_any_other(up):
    with listen("127.0.0.1", 0, "") as taken:
        port = taken.getsockname()[1]
        process = up(CLOUDMATCH_JOURNAL_LEGACY_PORT=str(port))
        assert process.wait() == 2
    assert process.log.startswith(f"journal.1 cannot listen on 127.0.0.1:{port} (Address already in use)")
    assert "change CLOUDMATCH_JOURNAL_LEGACY_PORT" in process.log


def test_legacy_ports_are_on_or_off(up):
    process = up("--legacy-ports", "80")
    assert process.wait() == 2
    assert process.log == "LEGACY_PORTS=80 cannot be used: expected 1 or 0\n"


def test_a_wrong_setting_is_rejected_in_one_sentence_before_anything_starts(up, tmp_path):
    process = up(CLOUDMATCH_JOURNAL_PORT="high")
    assert process.wait() == 2
    assert process.log == "CLOUDMATCH_JOURNAL_PORT='high' cannot be used: Expected `int`, got `str`\n"
    assert not (tmp_path / "run").exists()


def test_a_user_that_does_not_exist_is_rejected_before_anything_starts(up, tmp_path):
    process = up(CLOUDMATCH_LOCAL_USER="nobody-at-all")
    assert process.wait() == 2
    assert process.log == "CLOUDMATCH_LOCAL_USER=nobody-at-all cannot be used: there is no such user\n"
    assert not (tmp_path / "run").exists()


def test_an_impossible_number_of_edges_is_rejected(up):
    process = up("--edges", "-1")
    assert process.wait() == 2
    assert process.log == "EDGES=-1 cannot be used: expected a number from 1 to 50\n"


def test_a_port_that_is_taken_is_named_with_its_setting(up):
    with nats_server() as other:
        process = up(CLOUDMATCH_KAFKA_PORT=str(other.port))
        assert process.wait() == 2
    assert f"kafka.1 cannot listen on 127.0.0.1:{other.port}" in process.log
    assert "CLOUDMATCH_KAFKA_PORT" in process.log


def honcho_name(pid: int) -> str:
    try:
        found = re.search(rb"HONCHO_PROCESS_NAME=([^\0]*)", Path(f"/proc/{pid}/environ").read_bytes())
    except OSError:  # it has ended meanwhile
        return ""
    return found[1].decode() if found else ""
