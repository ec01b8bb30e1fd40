"""The one shape of all errors by HTTP: ``{"error": {"code": "not_found", "detail": "nothing at /x"}}``."""

from http import HTTPStatus

import msgspec

CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    414: "uri_too_long",
    415: "unsupported_media_type",
    431: "headers_too_large",
    421: "misdirected",
    500: "internal",
    503: "unavailable",
}


class ErrorDetail(msgspec.Struct, frozen=True):
    """What went wrong."""

    code: str
    detail: str


class Error(msgspec.Struct, frozen=True):
    """The answer to a request that failed."""

    error: ErrorDetail


def error(status: int, detail: str) -> Error:
    """Make the error of a status."""
    return Error(ErrorDetail(CODES.get(status) or HTTPStatus(status).name.lower(), detail))
