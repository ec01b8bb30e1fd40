"""Get other people's programs into a folder of our own: nothing else on the machine changes."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.peers import PeerMissingError

PATIENCE = 600  # s for an installation
PEERS = Path(__file__).parent


def quietly(command: Sequence[str | Path], cwd: Path, more: Mapping[str, str] | None = None) -> str:
    """Run a command with `more` in its environment; give what it printed.

    Raises:
        PeerMissingError: it is missing, failed, or did not end; with the end of its output.
    """
    arguments = list(map(str, command))
    try:
        done = subprocess.run(
            arguments,
            cwd=cwd,
            env={**os.environ, **(more or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise PeerMissingError(f"{arguments[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise PeerMissingError(f"`{' '.join(arguments)}` did not end within {PATIENCE} s") from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise PeerMissingError(f"`{' '.join(arguments)}` failed: {''.join(last)}")
    return done.stdout


def _root(folder: Path) -> Path:
    return folder / "debian"


def debian_program(folder: Path, name: str) -> Path | None:
    """Give where a program is: installed on this machine, or unpacked here; None: it is not."""
    for place in (Path("/usr/sbin"), Path("/usr/bin"), _root(folder) / "usr/sbin", _root(folder) / "usr/bin"):
        if (place / name).exists():
            return place / name
    return None


def debian_environment(folder: Path) -> dict[str, str]:
    """Give the environment in which an unpacked program finds its libraries."""
    places = [*map(str, _root(folder).glob("usr/lib/*-linux-gnu")), os.environ.get("LD_LIBRARY_PATH", "")]
    return {"LD_LIBRARY_PATH": ":".join(filter(None, places))}


def version_of(folder: Path, name: str) -> str:
    """The version that one of Debian's programs prints; empty if it prints none."""
    program = debian_program(folder, name)
    if program is None:
        return ""
    option = "-h" if name == "mosquitto" else "--version"
    env = {**os.environ, **debian_environment(folder)}
    output = subprocess.run([program, option], capture_output=True, text=True, check=False, env=env).stdout
    found = re.search(r"\d+\.\d+\.\d+", output)
    return found[0] if found else ""


def debian(folder: Path, *names: str) -> None:
    """Fetch Debian packages, and their missing dependencies, and unpack them here.

    They are not installed: no service starts, now or at the next boot, and no root is needed.
    """
    archives = folder / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    fetch = [
        *("apt-get", "-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=1", "--yes"),
        *("--download-only", "--no-install-recommends", "install", *names),
    ]
    try:
        quietly(fetch, folder)
    except PeerMissingError:  # its lists may be too old
        if os.getuid():
            raise
        quietly(["apt-get", "-o", "DPkg::Lock::Timeout=120", "update"], folder)
        quietly(fetch, folder)
    for package in archives.glob("*.deb"):
        quietly(["dpkg", "-x", package, _root(folder)], folder)
    shutil.rmtree(archives)


def npm(folder: Path) -> None:
    """Install what package.json pins."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(PEERS / "package.json", folder)
    quietly(["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--omit=dev"], folder)


def pypi(folder: Path, pins: Mapping[str, str]) -> None:
    """Make a virtual environment with these libraries."""
    if not (folder / "bin/python").exists():
        quietly([sys.executable, "-m", "venv", folder], folder.parent)
    pip = [folder / "bin/python", "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    quietly([*pip, *(f"{name}=={version}" for name, version in pins.items())], folder)


def go(program: Path, module: str) -> None:
    """Build a program from its module; what it was built from is not kept."""
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        more = {"GOPATH": scratch, "GOBIN": scratch, "GOFLAGS": "-modcacherw"}
        quietly(["go", "install", module], program.parent, more)
        built = next(file for file in Path(scratch).iterdir() if file.is_file())
        shutil.move(built, program)
