"""Errors of NATS and JetStream in words."""

from nats.js.errors import APIError

NO_STORAGE = (10023, 10047)  # codes of JetStream: insufficient resources of a cluster, of a server


def described(error: BaseException) -> str:
    """Say what happened: with code and description of JetStream's errors, whose own text may be empty."""
    if isinstance(error, APIError):
        code = f" (JetStream error {error.err_code}, code {error.code})" if error.err_code else ""
        return f"{error.description or type(error).__name__}{code}"
    return str(error).removeprefix("nats: ") or type(error).__name__
