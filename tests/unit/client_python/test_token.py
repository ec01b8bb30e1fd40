"""Tokens of the Python client: texts, and functions that are asked for one."""

import pytest

from cloudmatch.core.errors import TokenError
from cloudmatch.core.token import check, current


async def asynchronous() -> str:
    return "later"


def failing() -> str:
    raise OSError("secret.token")


@pytest.mark.parametrize(
    ("token", "found"), [(None, None), ("text", "text"), (lambda: "asked", "asked"), (asynchronous, "later")]
)
async def test_a_token_is_a_text_or_what_a_function_returns(token: object, found: str | None) -> None:
    check(token)
    assert await current(token) == found  # type: ignore[arg-type]  # any of them


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (failing, "no token: its function raised OSError"),
        (lambda: b"bytes", "no token: its function returned bytes, not str"),
    ],
)
async def test_a_function_that_fails_is_said_without_what_it_said(token: object, why: str) -> None:
    with pytest.raises(TokenError) as error:
        await current(token)  # type: ignore[arg-type]  # on purpose
    assert str(error.value) == why


@pytest.mark.parametrize("wrong", [b"bytes", 7, ["text"]])
def test_anything_else_is_a_type_error(wrong: object) -> None:
    with pytest.raises(TypeError, match=f"not {type(wrong).__name__}"):
        check(wrong)
