"""Tokens of devices (JWT, RFC 7519): what one permits, or why it is not taken.

What is cheap is checked first and the signature last, which is most of the cost: whoever sends anything costs
little. Nothing of a token is remembered, nor said.
"""

import binascii
import unicodedata
from collections.abc import Collection
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from cloudmatch_bus.contract.unreadable import UNREADABLE
from cloudmatch_edge.admission.denied import DeniedError, unauthorized
from cloudmatch_edge.admission.key_set import Keys
from cloudmatch_edge.admission.permit import Permit, Place

# base64url → base64, of which what only that has becomes invalid
_TO_BASE64 = bytes.maketrans(b"-_+/=", b"+/!!!")
Positive = Annotated[float, Meta(gt=0)]
Id = Annotated[str, Meta(min_length=1, max_length=64)]


class Rules(NamedTuple):
    """Which tokens an edge takes."""

    issuer: str
    audience: str
    algorithms: Collection[str]
    leeway: float = 30.0  # s that clocks may differ
    longest: float = 86_400.0  # s that a token may live


class _Header(msgspec.Struct):
    alg: str
    kid: str | None = None
    crit: Any = msgspec.UNSET


class _Limits(msgspec.Struct, forbid_unknown_fields=True):
    """The claim ``cm``. What an edge does not know might be a limit, so it takes no such token."""

    tags: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=64)] | None = None
    radius: Positive | None = None
    rate: Positive | None = None
    bytes: Positive | None = None
    place: (
        tuple[Annotated[float, Meta(ge=-90, le=90)], Annotated[float, Meta(ge=-180, le=180)], Positive] | None
    ) = None


class _Claims(msgspec.Struct):
    iss: str
    aud: str | list[str]
    exp: float
    sub: str
    nbf: float | None = None
    iat: float | None = None
    app: Id = "default"
    jti: Annotated[str, Meta(max_length=256)] | None = None
    cm: _Limits | None = None


_decode_header = msgspec.json.Decoder(_Header).decode
_decode_claims = msgspec.json.Decoder(_Claims).decode


def verify(token: str, keys: Keys, rules: Rules, now: float) -> Permit:
    """Return what a token permits.

    Args:
        now: s since 1970.

    Raises:
        DeniedError: it is not taken.
    """
    data, _, last = token.encode(errors="replace").rpartition(b".")
    first, dot, second = data.partition(b".")
    if not (first and dot and second and last):
        raise unauthorized("malformed", "this is no signed JWT: three parts of base64url")
    try:
        header, claims = _decode_header(_bytes(first)), _decode_claims(_bytes(second))
        signature = _bytes(last)
    except (*UNREADABLE, binascii.Error) as error:
        raise unauthorized("malformed", f"header or claims cannot be read: {error}") from None
    if header.crit is not msgspec.UNSET:
        raise unauthorized("malformed", "no extension named by `crit` is known here")
    if header.alg not in rules.algorithms:
        raise unauthorized("algorithm", f"only {', '.join(rules.algorithms)} is taken here")
    key = keys.find(header.kid)
    if key is None:
        raise unauthorized("unknown_key", "no key here has the `kid` of this token")
    if header.alg != key.name:
        raise unauthorized("algorithm", "its key is for another algorithm")
    _check(claims, rules, now)
    device = unicodedata.normalize("NFC", claims.sub)
    if not 1 <= len(device) <= 64:
        raise unauthorized("malformed", "`sub` is the id of a device: it must have 1 to 64 characters")
    if not key.signed(data, signature):
        raise unauthorized("signature", "the signature is not its key's")
    limits = claims.cm or _Limits()
    return Permit(
        app=claims.app,
        device=device,
        subject=claims.sub,
        expires=claims.exp,
        issued=claims.iat,
        token_id=claims.jti,
        tags=limits.tags,
        radius=limits.radius,
        rate=limits.rate or 0.0,
        bytes=limits.bytes or 0.0,
        place=Place(*limits.place) if limits.place else None,
    )


def _check(claims: _Claims, rules: Rules, now: float) -> None:
    """Check for whom a token is, and when."""
    denied: DeniedError | None = None
    issued = now if claims.iat is None else claims.iat
    if claims.iss != rules.issuer:
        denied = unauthorized("issuer", "`iss` is not the issuer that is trusted here")
    elif rules.audience not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
        denied = unauthorized("audience", "`aud` does not name this system")
    elif now >= claims.exp + rules.leeway:
        denied = unauthorized("expired", "`exp` has passed")
    elif max(issued, claims.nbf or 0.0) > now + rules.leeway:
        denied = unauthorized("not_yet", "`nbf` or `iat` is yet to come")
    elif claims.exp - issued > rules.longest + (rules.leeway if claims.iat is None else 0.0):
        denied = unauthorized("too_long", f"from `iat` to `exp` may be {rules.longest:g} s at most")
    if denied is not None:
        raise denied


def _bytes(text: bytes) -> bytes:
    """Decode base64url without padding."""
    return binascii.a2b_base64(text.translate(_TO_BASE64) + b"=" * (-len(text) % 4), strict_mode=True)
