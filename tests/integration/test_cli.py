"""The command `cloudmatch` against a real edge: in a terminal, in a pipe, as a swarm, as a doctor."""

import contextlib
import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import BIN, NatsServer, Service, environment, eventually_sync

Start = Callable[..., Service]
pytestmark = pytest.mark.servers


@pytest.fixture
def edge(nats_server: NatsServer, start: Start) -> Service:
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    start("match-engine", bus)
    return start("edge", bus)


@contextlib.contextmanager
def running(edge: Service, *words: str, **files: object) -> Iterator[subprocess.Popen[bytes]]:
    env = environment({"CLOUDMATCH_URL": edge.url, "COLUMNS": "120"})
    with subprocess.Popen([str(BIN / "cloudmatch"), *words], env=env, **files) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


class Terminal:
    """A person at a terminal."""

    def __init__(self) -> None:
        self.own, self.theirs = pty.openpty()
        os.set_blocking(self.own, False)
        self._screen = b""

    def type(self, text: str) -> None:
        os.write(self.own, text.encode())

    def sees(self, pattern: str) -> None:
        """Wait until the screen shows it."""

        def shown() -> re.Match[str] | None:
            with contextlib.suppress(BlockingIOError, OSError):
                self._screen += os.read(self.own, 65536)
            return re.search(
                pattern, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._screen.decode(errors="replace"))
            )

        eventually_sync(shown, 20, f"{pattern!r} on the screen")


def test_two_people_exchange_payloads_in_their_terminals(edge: Service) -> None:
    a, b = Terminal(), Terminal()
    places = [
        running(edge, "connect", "--id", name, stdin=t.theirs, stdout=t.theirs, stderr=t.theirs)
        for name, t in (("a", a), ("b", b))
    ]
    with places[0] as first, places[1] as second:
        a.sees("connected as a")
        a.sees(r"waiting for a peer …\s+matched with b, 1,000 m away")
        b.sees(r"waiting for a peer …\s+matched with a")
        a.type("ciào 😀\n")
        b.sees("a ▸ ciào 😀")
        a.sees(r"✓ \d+\.\d ms")
        b.type("//ciao [b]bello[/b]\n")
        a.sees(r"b ▸ /ciao \[b\]bello\[/b\]")
        a.type("/move 1\n")
        a.sees(r"(?s)/quit  leave.*/quit  leave")
        a.type("/move 48.2 16.4\n")
        a.sees("now at 48.2, 16.4")
        a.type("/quit\n")
        b.sees(r"the match with a ended \(left\)")
        assert first.wait(10) == 0
        b.type("alone\n")
        b.sees("not delivered: there is no peer")
        second.send_signal(signal.SIGINT)
        assert second.wait(10) == 130


def test_lines_pass_through_a_pipe_once_and_in_order(edge: Service, tmp_path: Path) -> None:
    wanted = "".join(f"{n} ciào\n" for n in range(2000))
    source, sink = tmp_path / "source", tmp_path / "sink"
    source.write_text(wanted)
    with (
        source.open("rb") as given,
        sink.open("wb") as kept,
        running(edge, "connect", "--id", "b", "--listen", stdin=subprocess.DEVNULL, stdout=kept) as b,
        running(edge, "connect", "--id", "a", stdin=given, stdout=subprocess.DEVNULL) as a,
    ):
        assert a.wait(30) == 0
        eventually_sync(lambda: sink.read_text() == wanted, 10, "all lines in the file")
        b.send_signal(signal.SIGTERM)
        assert b.wait(10) == 130


def test_a_swarm_whose_connections_drop_loses_nothing(edge: Service) -> None:
    words = ("swarm", "--devices", "8", "--seconds", "3", "--drop", "5", "--rate", "50")
    with running(edge, *words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as swarm:
        assert swarm.stdout is not None
        output = swarm.stdout.read().decode()
        assert swarm.wait(60) == 0, output
    figures = dict(re.findall(r"│ ([a-z0-9/ ]+?) +│ +([\d,.]+)", output))
    assert 0 < int(figures["matched"]) <= 8
    assert int(figures["resumes"]) > 0
    assert (
        int(figures["payloads received"].replace(",", ""))
        == int(figures["payloads sent"].replace(",", ""))
        > 300
    )
    assert {figures[name] for name in ("lost", "duplicated", "out of order", "undelivered")} == {"0"}


def test_the_doctor_passes_two_devices_and_names_the_missing_parts(
    edge: Service, nats_server: NatsServer
) -> None:
    urls = [
        w
        for o in ("--journal", "--analytics", "--match-engine", "--bridge")
        for w in (o, "http://127.0.0.1:1")
    ]
    words = ("doctor", *urls, "--nats", nats_server.url, "--amqp", "amqp://127.0.0.1:1")
    with running(edge, *words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as doctor:
        assert doctor.stdout is not None
        output = doctor.stdout.read().decode()
        assert doctor.wait(30) == 1
    assert re.findall(r"✓ │ ([\w ]+?) +│", output) == ["this client", "edge", "NATS", "two devices"]
    assert re.search(r"5 of 9 checks\s+failed", output)


def test_the_cluster_is_watched_until_ctrl_c(nats_server: NatsServer, start: Start) -> None:
    bus = {"CLOUDMATCH_NATS_URL": nats_server.url}
    worker, edge = start("match-engine", bus), start("edge", bus)
    words = ("cluster", "--id", "a", "--match-engine", worker.url)
    screen = Terminal()
    with (
        running(edge, *words, "--watch", stdout=screen.theirs, stderr=screen.theirs) as watching,
        running(edge, "connect", "--id", "a", "--listen", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL),
    ):
        screen.sees(r"edge-0 +│ alive")
        screen.sees(r"a has been connected to edge edge-0 since [\d: -]+ and waits for a peer\.")
        edge.kill()
        screen.sees(r"edge-0 +│ dead")
        worker.process.kill()
        screen.sees(r"does not answer: \[Errno 111\]")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 130
