"""HTTP requests to the services."""

import json
import os
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlencode

TIMEOUT = 5.0  # s
KEY = "CLOUDMATCH_HTTP_KEY"  # variable with the key of the HTTP APIs, where they ask for one


class AnswerError(Exception):
    """The service did not answer, or answered with an error; the message is for people."""


def ask(base: str, path: str, **query: object) -> Any:
    """Return the JSON from a service; parameters that are None are left out of the query.

    Raises:
        AnswerError: The service does not answer, or answers with an error.
    """
    given = {name: value for name, value in query.items() if value is not None}
    url = base.rstrip("/") + path + (f"?{urlencode(given)}" if given else "")
    key = os.environ.get(KEY)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 # the URL is the user's own
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310 # the same
            return json.load(answer)
    except urllib.error.HTTPError as error:
        advice = f" ({KEY} is that key)" if error.code == 401 else ""
        raise AnswerError(_detail(error) + advice) from None
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
