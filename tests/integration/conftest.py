"""What tests of several files of this floor share."""

import os
from pathlib import Path

import pytest

from bench import generator


@pytest.fixture(scope="session")
def load_generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bench's load generator, compiled. Skips without a compiler on a laptop, fails where CI is set."""
    try:
        return generator.build(tmp_path_factory.mktemp("generator"))
    except generator.CompilerMissingError as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
