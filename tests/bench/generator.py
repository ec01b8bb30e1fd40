"""Build and run the load generator."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.report import Run, decode_run

SOURCES = Path(__file__).parent
FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror")
PATIENCE = 120  # s for connecting and draining, on top of measuring


class GeneratorError(Exception):
    """The generator could not be built, or failed."""


class CompilerMissingError(GeneratorError):
    """No C compiler is installed; the message explains how to install one."""


def build(folder: Path) -> Path:
    """Compile the generator into `folder`; return the program.

    Raises:
        CompilerMissingError: no C compiler is installed.
        GeneratorError: it does not compile.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise CompilerMissingError(
            "The load generator is written in C: install a compiler (on Debian: apt install gcc libc6-dev)."
        )
    program = folder / "load"
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [compiler, *FLAGS, "-o", program, *sorted(SOURCES.glob("*.c"))],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise GeneratorError(f"the load generator does not compile:\n{done.stderr}")
    return program


def run(
    program: Path,
    ports: Sequence[int],
    pids: Mapping[str, int],
    options: Sequence[str],
    *,
    app: str,
    warmup: float,
    seconds: float,
) -> Run:
    """Run one load; return its measurements, valid or not.

    Raises:
        GeneratorError: it could not connect, or lost a connection; carries its message.
    """
    command = [
        *(str(program), "--ports", ",".join(map(str, ports)), "--app", app),
        *("--warmup", str(warmup), "--seconds", str(seconds)),
        *(("--pids", ",".join(f"{name}={pid}" for name, pid in pids.items())) if pids else ()),
        *options,
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE + warmup + seconds
        )
    except subprocess.TimeoutExpired:
        raise GeneratorError(f"the load generator did not end: {' '.join(command)}") from None
    try:
        return decode_run(done.stdout.encode())
    except ValueError:
        reason = done.stderr.strip() or f"exit code {done.returncode}"
        raise GeneratorError(f"the load generator failed: {reason}") from None
