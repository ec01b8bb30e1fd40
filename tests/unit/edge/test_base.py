"""The dialects offer all that the relay asks of a dialect."""

import inspect

import pytest

from cloudmatch_edge.dialects.base import Command, Dialect
from cloudmatch_edge.dialects.classic import Classic
from cloudmatch_edge.dialects.v1 import V1

METHODS = [name for name, _ in inspect.getmembers(Dialect, inspect.isfunction) if not name.startswith("_")]


@pytest.mark.parametrize("dialect", [Classic, V1])
@pytest.mark.parametrize("method", METHODS)
def test_a_dialect_has_every_method_with_the_same_number_of_arguments(
    dialect: type[Classic | V1], method: str
) -> None:
    asked, offered = (inspect.signature(getattr(owner, method)) for owner in (Dialect, dialect))
    assert len(offered.parameters) == len(asked.parameters)


@pytest.mark.parametrize("dialect", [Classic, V1])
def test_a_dialect_has_every_attribute(dialect: type[Classic | V1]) -> None:
    assert set(Dialect.__annotations__) == {"going_away", "resumable", "acknowledges"}
    assert all(hasattr(dialect, name) for name in Dialect.__annotations__)


def test_commands_are_values() -> None:
    for command in Command.__subclasses__():
        assert command.__struct_config__.frozen
