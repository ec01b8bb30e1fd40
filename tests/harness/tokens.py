"""Tokens of devices, the keys with which they are made, and an edge that asks for them."""

import contextlib
import json
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from harness.servers import NatsServer, nats_server
from harness.services import Service, service

ISSUER, AUDIENCE = "https://issuer.example", "cloudmatch"
KINDS = {"EdDSA": OKPAlgorithm, "ES256": ECAlgorithm, "RS256": RSAAlgorithm}


class Signer:
    """A private key, and what is published of it."""

    def __init__(self, algorithm: str = "EdDSA", kid: str = "k1", bits: int = 2048) -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.key: Any
        match algorithm:
            case "EdDSA":
                self.key = ed25519.Ed25519PrivateKey.generate()
            case "ES256":
                self.key = ec.generate_private_key(ec.SECP256R1())
            case _:
                self.key = rsa.generate_private_key(65537, bits)

    def published(self, **more: Any) -> dict[str, Any]:
        """Return the public key as a JWK."""
        jwk = KINDS[self.algorithm].to_jwk(self.key.public_key(), as_dict=True)
        return {**jwk, "kid": self.kid, **more}

    def private(self) -> dict[str, Any]:
        """Return the private key as a JWK, as nobody should publish it."""
        return {**KINDS[self.algorithm].to_jwk(self.key, as_dict=True), "kid": self.kid}

    def token(self, sub: str = "a", header: dict[str, Any] | None = None, **claims: Any) -> str:
        """Make a token; claims that are None are left out."""
        now = time.time()
        given = {"iss": ISSUER, "aud": AUDIENCE, "sub": sub, "iat": now, "exp": now + 600, **claims}
        given = {name: value for name, value in given.items() if value is not None}
        return jwt.encode(given, self.key, self.algorithm, {"kid": self.kid, **(header or {})})


_made = cache(Signer)


def signer(algorithm: str = "EdDSA", kid: str = "k1", bits: int = 2048) -> Signer:
    """Return a key that tests share: those of RSA take long to make."""
    return _made(algorithm, kid, bits)


def jwk_set(*keys: dict[str, Any]) -> bytes:
    """Return a set of public keys, as a file or a server has it."""
    return json.dumps({"keys": keys}).encode()


@contextlib.contextmanager
def asking_edge(keys: Path, **settings: str) -> Iterator[tuple[Service, NatsServer]]:
    """Run an edge that takes tokens of the key set in a file, and match-engine.

    Args:
        settings: further ones of the edge, by name.
    """
    auth = {"AUTH": "jwt", "AUTH_ISSUER": ISSUER, "AUTH_JWKS": str(keys), **settings}
    with nats_server() as server:
        bus = {"CLOUDMATCH_NATS_URL": server.url}
        ours = {f"CLOUDMATCH_EDGE_{name}": value for name, value in auth.items()}
        with service("match-engine", bus), service("edge", bus | ours) as edge:
            yield edge, server
