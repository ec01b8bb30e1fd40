"""How many worlds are simulated."""

import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test marked ``worlds(count)`` that many seeds, or those that the options name."""
    if (mark := metafunc.definition.get_closest_marker("worlds")) is not None:
        count = metafunc.config.getoption("--worlds") or mark.args[0]
        first = metafunc.config.getoption("--first-world")
        metafunc.parametrize("seed", range(first, first + count))
