"""Programs that only tests need and that may be missing."""

import os
import shutil

import pytest


def need(program: str, package: str) -> str:
    """Path of a program. Without it, skip on a laptop, fail where CI is set."""
    path = shutil.which(program)
    if path is None:
        message = f"{program} is missing: apt-get install {package}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path
