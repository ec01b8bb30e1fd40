"""Record ``make up`` and two devices that exchange payloads, in real terminals: ``make recording``.

tmux runs the terminals. Pauses are shortened, nothing else is changed. The data are in a temporary folder.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pictures.terminal_svg import Sight, Terminal, svg, without_pauses

COLOUR = re.compile(r"\x1b\[[\d;]*m")
WINDOW = re.compile(r"bytes exchanged in the previous 10 seconds: (\d+)")
ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs/session.svg"
TITLE = "make up starts CloudMatch; two devices connect, are matched and exchange ciao and hello"
OURS = ("CLOUDMATCH_", "TMUX")  # settings that the recording does not inherit
KEY_TIME = 0.06  # s between two keys
LONGEST_PAUSE = 1.2  # s in the film
DEADLINE = 60.0  # s for anything expected


class Recorder:
    """Terminals of a tmux server of its own, looked at whenever time passes."""

    def __init__(self, folder: str) -> None:
        self._socket = str(Path(folder) / "tmux")
        self._env = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("CLOUDMATCH_", "TMUX"))
            },
            "CLOUDMATCH_RUN_DIR": folder,
            "LANG": "C.UTF-8",
        }
        self._terminals: dict[str, Terminal] = {}
        self._sights: dict[str, list[Sight]] = {}

    def _tmux(self, *arguments: str) -> str:
        return subprocess.run(
            ["tmux", "-S", self._socket, "-f", "/dev/null", *arguments],
            check=True,
            capture_output=True,
            encoding="utf-8",
            cwd=ROOT,
            env=self._env,
        ).stdout

    def open(self, name: str, title: str, columns: int, rows: int) -> None:
        """Open a terminal with a shell."""
        self._tmux(
            *("new-session", "-d", "-s", name, "-x", str(columns), "-y", str(rows)),
            *("PS1='$ ' exec bash --noprofile --norc", ";", "set-option", "-g", "status", "off"),
        )
        self._terminals[name] = Terminal(title, columns, rows, [])
        self._sights[name] = []
        self.wait(name, lambda screen: "$" in screen)

    def type(self, name: str, line: str) -> None:
        """Type a line."""
        for key in line:
            self._tmux("send-keys", "-t", name, "-l", key)
            self._look_for(KEY_TIME)
        self._tmux("send-keys", "-t", name, "Enter")

    def interrupt(self, name: str) -> None:
        """Press Ctrl-C."""
        self._tmux("send-keys", "-t", name, "C-c")

    def wait(self, name: str, shown: Callable[[str], bool]) -> None:
        """Wait for something on a screen."""
        deadline = time.monotonic() + DEADLINE
        while not shown(screen := COLOUR.sub("", "\n".join(self._look(name).lines))):
            if time.monotonic() > deadline:
                sys.exit(f"the terminal {name} does not show what was expected:\n{screen}")
            self._look_for(0.05)

    def _look_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for name in self._terminals:
            self._sights[name].append(self._look(name))
        time.sleep(max(0.0, end - time.monotonic()))

    def _look(self, name: str) -> Sight:
        answer = self._tmux(
            *("display-message", "-p", "-t", name, "#{history_size}", ";"),
            *("capture-pane", "-p", "-e", "-t", name, "-S", "-"),
        )
        scrolled, *lines = answer.rstrip("\n").split("\n")
        return Sight(time.monotonic(), lines, int(scrolled))

    def film(self) -> dict[str, Terminal]:
        """Return the terminals with what they showed until now."""
        self._look_for(0)
        return {name: each._replace(sights=[*self._sights[name]]) for name, each in self._terminals.items()}

    def close(self) -> None:
        """End all terminals."""
        self._tmux("kill-server")


def record(folder: str) -> dict[str, Terminal]:
    """Run the session."""
    recorder = Recorder(folder)
    try:
        recorder.open("up", "make up", 106, 22)
        recorder.open("a", "device a", 50, 10)
        recorder.open("b", "device b", 50, 10)
        recorder.type("up", "make up")
        recorder.wait("up", lambda screen: "└" in screen)
        recorder.type("a", ".venv/bin/cloudmatch connect --id a")
        recorder.wait("a", lambda screen: "waiting for a peer" in screen)
        recorder.type("b", ".venv/bin/cloudmatch connect --id b")
        for name, peer in (("a", "b"), ("b", "a")):
            recorder.wait(name, lambda screen, peer=peer: f"matched with {peer}" in screen)
        for sender, receiver, payload in (("a", "b", "ciao"), ("b", "a", "hello")):
            recorder.type(sender, payload)
            recorder.wait(sender, lambda screen: "✓" in screen)
            recorder.wait(receiver, lambda screen, says=f"{sender} ▸ {payload}": says in screen)
        recorder.wait("up", lambda screen: sum(map(int, WINDOW.findall(screen))) == len("ciaohello"))
        return recorder.film()
    finally:
        recorder.interrupt("up")
        recorder.wait("up", lambda screen: screen.endswith("$"))
        recorder.close()


def main() -> None:
    """Record the session and write the SVG."""
    if shutil.which("tmux") is None:
        sys.exit("tmux is missing: apt-get install tmux")
    with tempfile.TemporaryDirectory(prefix="cm-") as folder:
        film = record(folder)
    up, a, b = without_pauses(list(film.values()), LONGEST_PAUSE)
    FILE.write_text(svg(TITLE, [[up], [a, b]]), encoding="utf-8")
    print(f"{FILE.relative_to(ROOT)}: {FILE.stat().st_size:,} bytes")  # noqa: T201 - a command


if __name__ == "__main__":
    main()
