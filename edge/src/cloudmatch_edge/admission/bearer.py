"""Which token a request carries: in the header ``Authorization``, or as a subprotocol, which a page can name.

``Authorization: Bearer <JWT>``, or ``Sec-WebSocket-Protocol: cloudmatch.v1, bearer.<JWT>``: never in the URL,
which every proxy on the way writes to its log.
"""

import re
from collections.abc import Sequence

from cloudmatch_edge.admission.denied import DeniedError, unauthorized
from cloudmatch_edge.dialects.v1_messages import TOKEN_MAX

SUBPROTOCOL = "bearer."
_IN_URL = re.compile(r"(?:^|&)(?:access_)?token=", re.IGNORECASE)
_SECRETS = re.compile(r"\b(bearer[. ]|resume\.)\s*[^\s,;'\"\\]+", re.IGNORECASE)


def check_query(query: str) -> None:
    """Refuse a token in the URL.

    Raises:
        DeniedError: there is one.
    """
    if _IN_URL.search(query):
        detail = "URLs are logged: send the token as header Authorization, or as subprotocol bearer.<token>"
        raise DeniedError(400, "token_in_url", detail)


def find(authorization: Sequence[str], offered: Sequence[str]) -> str:
    """Return the token of a request.

    Args:
        authorization: the headers of this name.
        offered: the subprotocols.

    Raises:
        DeniedError: there is none, more than one, or one that is too long.
    """
    schemes = (each.partition(" ") for each in authorization)
    found = [rest.strip() for scheme, _, rest in schemes if scheme.lower() == "bearer"]
    found += [each.removeprefix(SUBPROTOCOL) for each in offered if each.startswith(SUBPROTOCOL)]
    if not found:
        raise unauthorized(
            "missing", "a token is needed: as header Authorization, or as subprotocol bearer.<token>"
        )
    if len(found) > 1 or len(authorization) > 1:
        raise unauthorized("ambiguous", "send one token, once")
    if len(found[0]) > TOKEN_MAX:
        raise unauthorized("malformed", f"a token has at most {TOKEN_MAX} bytes")
    return found[0]


def redacted(text: str) -> str:
    """Return what a client has sent, without its tokens: for errors that quote it."""
    return _SECRETS.sub(r"\1…", text)
