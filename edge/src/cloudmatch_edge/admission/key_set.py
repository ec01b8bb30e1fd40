"""The keys with which tokens may be signed: a JWK set (RFC 7517), read with distrust.

Whoever can change the set decides who comes in; but its server may also fail, or be a portal's page.
"""

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, NamedTuple

import jwt
import msgspec
from jwt.algorithms import Algorithm

from cloudmatch_bus.contract.unreadable import UNREADABLE

LARGEST = 256 * 1024  # bytes of a set
MOST = 64  # keys of a set: to read one takes up to 0.1 ms
SECRET_MIN = 32  # bytes of a shared secret (RFC 7518, 3.2)
RSA_BITS = range(2048, 4096 + 1)  # a shorter one can be broken, a longer one is dear
_RSA_TEXT = 700  # characters of the longest such number
_KINDS = {("OKP", "Ed25519"): "EdDSA", ("EC", "P-256"): "ES256", ("RSA", None): "RS256"}


class Key(NamedTuple):
    """A key, and the only algorithm that it is for."""

    name: str  # of the algorithm
    algorithm: Algorithm
    key: Any

    def signed(self, data: bytes, signature: bytes) -> bool:
        """Whether a signature is this key's."""
        return self.algorithm.verify(data, self.key, signature)


class Keys(NamedTuple):
    """All keys of an edge: by their ids, or one that needs no id."""

    by_id: Mapping[str, Key]
    only: Key | None = None

    def __len__(self) -> int:
        return 1 if self.only else len(self.by_id)

    def find(self, kid: str | None) -> Key | None:
        """Return the key that a token names."""
        return self.only or self.by_id.get(kid or "")


class KeySetError(ValueError):
    """Bytes are no set of keys, or none of its keys can be used."""


class _Jwk(msgspec.Struct, omit_defaults=True):
    """A JSON Web Key, as far as it matters here."""

    kty: str
    kid: str | None = None
    alg: str | None = None
    use: str | None = None
    key_ops: list[str] | None = None
    crv: str | None = None
    n: str | None = None
    e: str | None = None
    x: str | None = None
    y: str | None = None
    d: Any = None  # only a private key has it


class _JwkSet(msgspec.Struct):
    keys: list[msgspec.Raw]


@cache
def _algorithm(name: str) -> Algorithm:
    return jwt.get_algorithm_by_name(name)


def shared(secret: bytes) -> Keys:
    """Return the keys of an edge that shares a secret with whoever makes tokens (HS256).

    Raises:
        KeySetError: it is too short.
    """
    if len(secret) < SECRET_MIN:
        raise KeySetError(f"the secret has {len(secret)} bytes, at least {SECRET_MIN} are needed")
    return Keys({}, Key("HS256", _algorithm("HS256"), secret))


def read(data: bytes, algorithms: Collection[str]) -> tuple[Keys, list[str]]:
    """Read a set; return its keys, and what is wrong with those that are left out.

    Args:
        algorithms: that are allowed.

    Raises:
        KeySetError: it cannot be used.
    """
    if len(data) > LARGEST:
        raise KeySetError(f"it has more than {LARGEST} bytes")
    try:
        entries = msgspec.json.decode(data, type=_JwkSet).keys
    except UNREADABLE as error:
        raise KeySetError(f"it is no JWK set: {error}") from None
    if len(entries) > MOST:
        raise KeySetError(f"it has {len(entries)} keys, at most {MOST} are read")
    found: dict[str, Key | None] = {}  # None: two have this id, and nobody can tell which one is meant
    problems = []
    for number, entry in enumerate(entries, 1):
        try:
            kid, key = _key(entry, algorithms)
        except UNREADABLE as error:
            problems.append(f"key {number}: {error}")
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            problems.append(f"key {number} is no key")
        else:
            if kid in found:
                problems.append(f"key {number} has the `kid` of another")
            found[kid] = None if kid in found else key
    keys = {kid: key for kid, key in found.items() if key is not None}
    if not keys:
        raise KeySetError("; ".join(["it has no key that can be used", *problems[:3]]))
    return Keys(keys), problems


def _key(entry: msgspec.Raw, algorithms: Collection[str]) -> tuple[str, Key]:
    jwk = msgspec.json.decode(entry, type=_Jwk)
    name = _KINDS.get((jwk.kty, jwk.crv))
    if jwk.d is not None:
        raise msgspec.ValidationError("it is private, and must be secret: make another")
    if not jwk.kid:
        raise msgspec.ValidationError("it has no `kid`")
    if name not in algorithms or jwk.alg not in (None, name):
        raise msgspec.ValidationError(f"it is not for {', '.join(algorithms)}")
    if jwk.use not in (None, "sig") or "verify" not in (jwk.key_ops or ("verify",)):
        raise msgspec.ValidationError("it is not for signatures")
    if any(len(number or "") > _RSA_TEXT for number in (jwk.n, jwk.e)):
        raise msgspec.ValidationError("it is too large")
    assert name is not None
    algorithm = _algorithm(name)
    key = algorithm.from_jwk(msgspec.to_builtins(jwk))
    if name == "RS256" and key.key_size not in RSA_BITS:
        raise msgspec.ValidationError(f"it has {key.key_size} bits, not {RSA_BITS[0]} to {RSA_BITS[-1]}")
    return jwk.kid, Key(name, algorithm, key)
