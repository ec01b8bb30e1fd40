"""The keys with which tokens may be signed."""

import json
from base64 import urlsafe_b64decode
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from cloudmatch_edge.admission.key_set import LARGEST, MOST, KeySetError, read, shared
from harness.tokens import Signer, jwk_set, signer

ALL = ("EdDSA", "ES256", "RS256")


@pytest.mark.parametrize("algorithm", ALL)
def test_keys_of_each_algorithm_are_read_and_verify_what_they_signed(algorithm: str) -> None:
    one = signer(algorithm)
    keys, problems = read(jwk_set(one.published(use="sig", alg=algorithm, key_ops=["verify"])), ALL)
    found = keys.find("k1")
    assert found is not None
    assert (found.name, len(keys), problems) == (algorithm, 1, [])
    data, _, signature = one.token().rpartition(".")
    raw = urlsafe_b64decode(signature + "==")
    assert found.signed(data.encode(), raw)
    assert not found.signed(data.encode() + b"x", raw)
    assert keys.find("k2") is keys.find(None) is keys.find("../../k1") is None


P384 = {**ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True), "kid": "k"}
BAD: list[tuple[str, Any, str]] = [
    ("private", signer().private(), "it is private"),
    ("private RSA", signer("RS256").private(), "it is private"),
    ("a short RSA key", signer("RS256", "k1", 1024).published(), "it has 1024 bits"),
    ("a long number", {"kty": "RSA", "kid": "k", "n": "x" * 701, "e": "AQAB"}, "it is too large"),
    ("RSA with e=1", signer("RS256").published(e="AQ"), "key 2 is no key"),
    ("without a kid", {**signer().published(), "kid": None}, "it has no `kid`"),
    ("a shared secret", {"kty": "oct", "k": "c2VjcmV0", "kid": "k"}, "it is not for"),
    ("another curve", P384, "it is not for"),
    ("for another algorithm", signer("RS256").published(alg="PS256"), "it is not for"),
    ("for encryption", signer().published(use="enc"), "not for signatures"),
    ("for signing only", signer().published(key_ops=["sign"]), "not for signatures"),
    ("not on its curve", signer("ES256").published(x="AAAA"), "key 2 is no key"),
    ("half", {"kty": "OKP", "crv": "Ed25519", "kid": "k"}, "key 2 is no key"),
    ("text", "key", "key 2:"),
    ("of other types", {"kty": "OKP", "kid": 7}, "key 2:"),
    ("a path as its kind", {"kty": "/etc/passwd", "kid": "k"}, "it is not for"),
]


@pytest.mark.parametrize(("bad", "problem"), [each[1:] for each in BAD], ids=[each[0] for each in BAD])
def test_a_key_that_cannot_be_used_is_left_out_and_named_and_the_others_count(bad: Any, problem: str) -> None:
    good = Signer(kid="good")
    keys, problems = read(jwk_set(good.published(), bad), ALL)
    assert list(keys.by_id) == ["good"]
    assert len(problems) == 1
    assert problem in problems[0]
    with pytest.raises(KeySetError, match="no key that can be used"):
        read(jwk_set(bad), ALL)


def test_an_algorithm_that_is_not_allowed_has_no_keys() -> None:
    with pytest.raises(KeySetError, match="it is not for ES256"):
        read(jwk_set(signer().published()), ["ES256"])


def test_of_two_keys_with_one_id_none_counts_as_nobody_can_tell_which_is_meant() -> None:
    same = [Signer().published() for _ in range(3)]
    keys, problems = read(jwk_set(*same, Signer(kid="k2").published()), ALL)
    assert list(keys.by_id) == ["k2"]
    assert problems == [f"key {number} has the `kid` of another" for number in (2, 3)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>sign in</html>",
        b'{"keys":[]}',
        b'{"keys":{}}',
        b"[" * 100_000,
        b'{"keys":["\xff"]}',
        json.dumps(signer().published()).encode(),
        jwk_set(signer().published()) + b" " * LARGEST,
        jwk_set(*[signer().published()] * (MOST + 1)),
    ],
    ids=["nothing", "a page", "no keys", "no list", "nested", "no UTF-8", "one key", "too large", "too many"],
)
def test_what_is_no_set_of_keys_is_refused(data: bytes) -> None:
    with pytest.raises(KeySetError):
        read(data, ALL)


def test_a_shared_secret_needs_no_id_and_at_least_32_bytes() -> None:
    keys = shared(b"s" * 32)
    assert keys.find(None) is keys.find("any") is keys.only
    assert len(keys) == 1
    with pytest.raises(KeySetError, match="31 bytes"):
        shared(b"s" * 31)
