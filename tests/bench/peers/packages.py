"""Install third-party programs into a folder, without changing the rest of the machine."""

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


def output_of(command: Sequence[str | Path], cwd: Path, more: Mapping[str, str] | None = None) -> str:
    """Run a command with `more` in its environment; return what it printed.

    Raises:
        PeerMissingError: it is missing, failed or timed out; carries the last line of its output.
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
    """Return the path of a program, installed on this machine or unpacked here; None: there is none."""
    for root in (Path("/"), _root(folder)):
        for program in (root / "usr/sbin" / name, root / "usr/bin" / name):
            if program.exists():
                return program
    return None


def debian_environment(folder: Path) -> dict[str, str]:
    """Return the environment in which an unpacked program finds its libraries."""
    folders = [*map(str, _root(folder).glob("usr/lib/*-linux-gnu")), os.environ.get("LD_LIBRARY_PATH", "")]
    return {"LD_LIBRARY_PATH": ":".join(filter(None, folders))}


def version_of(folder: Path, name: str) -> str:
    """Return the version that a program from Debian prints; empty if it prints none."""
    program = debian_program(folder, name)
    if program is None:
        return ""
    option = "-h" if name == "mosquitto" else "--version"
    env = {**os.environ, **debian_environment(folder)}
    output = subprocess.run([program, option], capture_output=True, text=True, check=False, env=env).stdout
    found = re.search(r"\d+\.\d+\.\d+", output)
    return found[0] if found else ""


def debian(folder: Path, *names: str) -> None:
    """Fetch Debian packages with their missing dependencies, and unpack them here.

    They are not installed, so that no service starts, now or at the next boot, and root is not needed.
    """
    archives = folder / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    fetch = [
        *("apt-get", "-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=1", "--yes"),
        *("--download-only", "--no-install-recommends", "install", *names),
    ]
    try:
        output_of(fetch, folder)
    except PeerMissingError:  # the package lists may be out of date
        if os.getuid():
            raise
        output_of(["apt-get", "-o", "DPkg::Lock::Timeout=120", "update"], folder)
        output_of(fetch, folder)
    for package in archives.glob("*.deb"):
        output_of(["dpkg", "-x", package, _root(folder)], folder)
    shutil.rmtree(archives)


def npm(folder: Path) -> None:
    """Install what package.json pins."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(PEERS / "package.json", folder)
    output_of(["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--omit=dev"], folder)


def pypi(folder: Path, pins: Mapping[str, str]) -> None:
    """Create a virtual environment with these libraries."""
    if not (folder / "bin/python").exists():
        output_of([sys.executable, "-m", "venv", folder], folder.parent)
    pip = [folder / "bin/python", "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    output_of([*pip, *(f"{name}=={version}" for name, version in pins.items())], folder)


def go(program: Path, module: str) -> None:
    """Build a program from its module; keep only the program."""
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        more = {"GOPATH": scratch, "GOBIN": scratch, "GOFLAGS": "-modcacherw"}
        output_of(["go", "install", module], program.parent, more)
        built = next(file for file in Path(scratch).iterdir() if file.is_file())
        shutil.move(built, program)
