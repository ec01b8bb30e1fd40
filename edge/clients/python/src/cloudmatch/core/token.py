"""The token of a device: a text, or a function that is asked for one again and again."""

import inspect
from collections.abc import Awaitable, Callable

from cloudmatch.core.errors import TokenError

Token = str | Callable[[], str | Awaitable[str]]


def check(token: object) -> None:
    """Refuse what is neither.

    Raises:
        TypeError: it is something else.
    """
    if token is not None and not isinstance(token, str) and not callable(token):
        raise TypeError(f"token must be a str, or a function that returns one, not {type(token).__name__}")


async def current(token: Token | None) -> str | None:
    """Return the token to use now.

    Raises:
        TokenError: the function has failed.
    """
    if token is None or isinstance(token, str):
        return token
    try:
        found = token()
        if inspect.isawaitable(found):
            found = await found
    except Exception as error:
        raise TokenError(f"no token: its function raised {type(error).__name__}") from error
    if not isinstance(found, str):
        raise TokenError(f"no token: its function returned {type(found).__name__}, not str")
    return found
