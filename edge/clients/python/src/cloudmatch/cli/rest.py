"""HTTP requests to the services."""

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlencode

TIMEOUT = 5.0  # s


class AnswerError(Exception):
    """The service did not answer, or answered with an error; the message is for people."""


def ask(base: str, path: str, **query: object) -> Any:
    """Return the JSON from a service; parameters that are None are left out of the query.

    Raises:
        AnswerError: The service does not answer, or answers with an error.
    """
    given = {name: value for name, value in query.items() if value is not None}
    url = base.rstrip("/") + path + (f"?{urlencode(given)}" if given else "")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310 # the URL is the user's own
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise AnswerError(_detail(error)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise AnswerError(f"{base} does not answer: {reason}") from None


def _detail(error: urllib.error.HTTPError) -> str:
    """Return what an error says: a JSON string of 2019, or the detail of any other."""
    try:
        answer = json.load(error)
        return answer if isinstance(answer, str) else str(answer["error"]["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{error.url} answered {error.code} {error.reason}"
