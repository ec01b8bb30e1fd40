"""Why a device may not come in."""

from typing import Literal

Reason = Literal[
    "missing",  # no token
    "ambiguous",  # several
    "malformed",  # no token of ours: not three parts, too long, no JSON, a claim of another type
    "algorithm",
    "unknown_key",
    "signature",
    "issuer",
    "audience",
    "expired",
    "not_yet",
    "too_long",  # it lives longer than an edge takes
    "revoked",
]


class DeniedError(Exception):
    """A device may not come in. Nothing of its token is in the sentence.

    Args:
        status: of HTTP: 400 for a request that carries its token where it must not, 401 for a token, 403 for
            what that does not allow.
        code: of the error.
        detail: a sentence for whoever develops the client.
        reason: what is wrong with the token.
        parameter: of the query, which the token does not allow.
    """

    def __init__(
        self, status: int, code: str, detail: str, *, reason: Reason | None = None, parameter: str = ""
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.reason = reason
        self.parameter = parameter


def unauthorized(reason: Reason, detail: str) -> DeniedError:
    """Make the error of a token."""
    return DeniedError(401, "unauthorized", detail, reason=reason)


def forbidden(parameter: str, detail: str) -> DeniedError:
    """Make the error of what a token does not allow."""
    return DeniedError(403, "forbidden", detail, parameter=parameter)
