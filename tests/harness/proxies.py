"""nginx and HAProxy in front of edges, as `deploy/proxies` configures them."""

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from harness.processes import ROOT, Process, free_port
from harness.programs import need
from harness.servers import answers
from harness.services import Service
from harness.waiting import eventually_sync

CONFIGURATIONS = ROOT / "deploy/proxies"
# What surrounds a configuration of nginx: one process in a folder of its own.
NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log stderr;
events {{ }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
{configuration}
}}
"""


class Proxy:
    """A proxy in front of two edges. It keeps its port over `restart`."""

    def __init__(self, name: str, edges: Sequence[Service], folder: Path) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{free_port()}"
        self._program = need(name, {"nginx": "nginx-light"}.get(name, name))
        self._edges = edges
        self._folder = folder
        self.process: Process | None = None

    def configuration(self) -> str:
        """Return the documented configuration, with the ports of the test."""
        file = "nginx.conf" if self.name == "nginx" else "haproxy.cfg"
        text = (CONFIGURATIONS / file).read_text()
        for port, edge in zip((8080, 8090), self._edges, strict=True):
            text = text.replace(f"127.0.0.1:{port}", urlsplit(edge.url).netloc)
        return re.sub(r"(listen|bind) :?80\b", rf"\1 {urlsplit(self.url).netloc}", text)

    def start(self, *changes: tuple[str, str]) -> None:
        """Start with the documented configuration, in which `changes` (pattern, text) are made."""
        text = self.configuration()
        for pattern, replacement in changes:
            text, count = re.subn(pattern, replacement, text)
            assert count, f"nothing in the configuration of {self.name} is like {pattern}"
        file = self._folder / "configuration"
        if self.name == "nginx":
            text = NGINX.format(folder=self._folder, configuration=text)
        file.write_text(text)
        option = "-c" if self.name == "nginx" else "-f"
        quiet = ("-e", "stderr") if self.name == "nginx" else ()
        self.process = Process(self.name, [self._program, option, file, *quiet], {}, self._folder)
        eventually_sync(lambda: answers(urlsplit(self.url).port), 10, f"{self.name} listening")

    def stop(self) -> None:
        """End the proxy and all connections through it."""
        if self.process is not None:
            self.process.kill()

    def restart(self, *changes: tuple[str, str]) -> None:
        """End all connections, and start with another configuration."""
        self.stop()
        self.start(*changes)


@contextlib.contextmanager
def proxy(name: str, edges: Sequence[Service]) -> Iterator[Proxy]:
    """A proxy, ``nginx`` or ``haproxy``, that `start` starts. If it is missing: skip, or fail with CI."""
    with tempfile.TemporaryDirectory(prefix=f"cloudmatch-{name}-") as folder:
        made = Proxy(name, edges, Path(folder))
        try:
            yield made
        except BaseException as error:
            if made.process is not None:
                error.add_note(made.process.tail())
            raise
        finally:
            made.stop()
