"""Programs that only tests need and that may be missing."""

import os
import shutil
import subprocess

import pytest


def need(program: str, package: str) -> str:
    """Path of a program. Without it, skip on a laptop, fail where CI is set."""
    everywhere = os.pathsep.join((os.environ["PATH"], "/usr/sbin"))  # which not everyone's path has
    path = shutil.which(program, path=everywhere)
    if path is None:
        message = f"{program} is missing: apt-get install {package}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


def node() -> list[str]:
    """The command that runs Node with a WebSocket."""
    path = need("node", "nodejs node-ws")
    version = subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout
    major = int(version.lstrip("v").split(".")[0])
    return [path, "--experimental-websocket"] if major in (20, 21) else [path]
