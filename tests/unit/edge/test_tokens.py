"""Tokens of devices: what one permits, or why it is not taken."""

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from jwt.utils import base64url_encode

from cloudmatch_edge.admission.denied import DeniedError
from cloudmatch_edge.admission.key_set import Key, Keys, read, shared
from cloudmatch_edge.admission.permit import Permit, Place
from cloudmatch_edge.admission.tokens import Rules, verify
from harness.tokens import AUDIENCE, ISSUER, Signer, jwk_set, signer

ALL = ("EdDSA", "ES256", "RS256")
RULES = Rules(ISSUER, AUDIENCE, ALL)
NOW = 1_000_000_000.0
OURS, STRANGER = signer(), Signer()
SECRET = b"s" * 32


@pytest.fixture(scope="module")
def keys() -> Keys:
    published = [signer(name, f"k{number}").published() for number, name in enumerate(ALL, 1)]
    return read(jwk_set(*published), ALL)[0]


def token(sub: Any = "a", header: dict[str, Any] | None = None, **claims: Any) -> str:
    return OURS.token(sub, header, **{"iat": NOW, "exp": NOW + 600, **claims})


def forged(header: dict[str, Any], **claims: Any) -> str:
    """Make a token with another's signature."""
    parts = token(**claims).split(".")
    return ".".join((base64url_encode(json.dumps(header).encode()).decode(), *parts[1:]))


def signed(claims: bytes, header: bytes = b'{"alg":"EdDSA","kid":"k1"}') -> str:
    """Sign what may be no JSON."""
    data = b".".join(map(base64url_encode, (header, claims)))
    return b".".join((data, base64url_encode(OURS.key.sign(data)))).decode()


def claims(**more: str) -> bytes:
    """Return claims as JSON, of which each is given as JSON."""
    known = {
        "iss": f'"{ISSUER}"',
        "aud": '"cloudmatch"',
        "sub": '"a"',
        "exp": "1000000600",
        "iat": "1000000000",
    }
    return ("{" + ",".join(f'"{name}":{text}' for name, text in (known | more).items()) + "}").encode()


def strange(header: dict[str, Any]) -> str:
    """Make a token with a key that is not ours."""
    return STRANGER.token("a", header, iat=NOW, exp=NOW + 600)


def hmac_with_the_public_key() -> str:
    public = OURS.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    given = {"iss": ISSUER, "aud": AUDIENCE, "sub": "a", "exp": NOW + 600}
    data = b".".join(
        base64url_encode(json.dumps(each).encode()) for each in ({"alg": "HS256", "kid": "k1"}, given)
    )
    mac = jwt.get_algorithm_by_name("HS256").sign(data, public)
    return b".".join((data, base64url_encode(mac))).decode()


def tampered() -> str:
    head, _, signature = token().split(".")
    return ".".join((head, token("b").split(".")[1], signature))


def short(algorithm: str) -> str:
    """Return a token without its signature."""
    kid = f"k{ALL.index(algorithm) + 1}"
    return signer(algorithm, kid).token("a", iat=NOW, exp=NOW + 600).rpartition(".")[0]


DENIED: list[tuple[str, str, str]] = [
    ("empty", "", "malformed"),
    ("two parts", "e30.e30", "malformed"),
    ("four parts", token() + ".e30", "malformed"),
    ("padding", token() + "=", "malformed"),
    ("no ASCII", token() + "é", "malformed"),
    ("half a character", token() + "\udcff", "malformed"),
    ("base64 that is not for URLs", f"{token().rpartition('.')[0]}.ab+/", "malformed"),
    ("no base64url", token().replace(".", ".+", 1), "malformed"),
    ("a rest of one character", f"{token().rpartition('.')[0]}.A", "malformed"),
    ("no signature", token().rpartition(".")[0] + ".", "malformed"),
    ("a line end", token() + "\n", "malformed"),
    ("nested", signed(b"[" * 3000), "malformed"),
    ("header is no JSON", signed(claims(), b"\xff"), "malformed"),
    ("header is a list", signed(claims(), b"[]"), "malformed"),
    ("alg is no text", signed(claims(), b'{"alg":1}'), "malformed"),
    ("crit", token(header={"crit": ["b64"], "b64": False}), "malformed"),
    ("crit null", signed(claims(), b'{"alg":"EdDSA","kid":"k1","crit":null}'), "malformed"),
    ("alg none", forged({"alg": "none", "kid": "k1"}), "algorithm"),
    ("alg NONE", forged({"alg": "NONE", "kid": "k1"}), "algorithm"),
    ("HS256 with the public key", hmac_with_the_public_key(), "algorithm"),
    ("alg of another key", forged({"alg": "ES256", "kid": "k1"}), "algorithm"),
    ("RS256 with ES256's kid", forged({"alg": "RS256", "kid": "k2"}), "algorithm"),
    ("kid absent", forged({"alg": "EdDSA"}), "unknown_key"),
    ("kid empty", forged({"alg": "EdDSA", "kid": ""}), "unknown_key"),
    ("kid unknown", forged({"alg": "EdDSA", "kid": "k9"}), "unknown_key"),
    ("kid a path", forged({"alg": "EdDSA", "kid": "../../../dev/null"}), "unknown_key"),
    ("kid a number", signed(claims(), b'{"alg":"EdDSA","kid":1}'), "malformed"),
    (
        "a key in the header",
        strange({"jwk": STRANGER.published()}),
        "signature",
    ),
    ("a URL in the header", strange({"jku": "https://x/"}), "signature"),
    ("another key's signature", strange({}), "signature"),
    ("claims changed", tampered(), "signature"),
    ("signature cut", token()[:-4], "signature"),
    *((f"{name} of one byte", f"{short(name)}.AA", "signature") for name in ALL),
    *((f"{name} of zeros", f"{short(name)}.{'A' * 86}", "signature") for name in ALL),
    *((f"{name} of 3,000 bytes", f"{short(name)}.{'A' * 4000}", "signature") for name in ALL),
    ("no iss", token(iss=None), "malformed"),
    ("another iss", token(iss=ISSUER + "/"), "issuer"),
    ("no aud", token(aud=None), "malformed"),
    ("another aud", token(aud="cloudmatch2"), "audience"),
    ("a list of other aud", token(aud=["a", "b"]), "audience"),
    ("an empty list of aud", token(aud=[]), "audience"),
    ("no exp", token(exp=None), "malformed"),
    ("exp as text", signed(claims(exp='"1000000600"')), "malformed"),
    ("exp 1e400", signed(claims(exp="1e400")), "malformed"),
    ("exp NaN", signed(claims(exp="NaN")), "malformed"),
    ("exp true", signed(claims(exp="true")), "malformed"),
    ("exp past by the leeway", token(exp=NOW - 30, iat=NOW - 60), "expired"),
    ("exp negative", token(exp=-1, iat=-2), "expired"),
    ("nbf to come by more than the leeway", token(nbf=NOW + 31), "not_yet"),
    ("iat to come by more than the leeway", token(iat=NOW + 31), "not_yet"),
    ("lives a second longer than allowed", token(exp=NOW + 86_401), "too_long"),
    ("without iat longer than allowed", token(exp=NOW + 86_431, iat=None), "too_long"),
    ("no sub", token(None), "malformed"),
    ("sub empty", token(""), "malformed"),
    ("sub of 65 characters", token("a" * 65), "malformed"),
    ("sub a number", signed(claims(sub="7")), "malformed"),
    ("sub half a character", signed(claims(sub='"\\ud800"')), "malformed"),
    ("sub no UTF-8", signed(claims(sub='"?"').replace(b"?", b"\xff")), "malformed"),
    ("app empty", token(app=""), "malformed"),
    ("app of 65 characters", token(app="a" * 65), "malformed"),
    ("a limit that is not known here", token(cm={"altitude": 3}), "malformed"),
    ("tags as text", token(cm={"tags": "red"}), "malformed"),
    ("radius 0", token(cm={"radius": 0}), "malformed"),
    ("rate negative", token(cm={"rate": -1}), "malformed"),
    ("place without a radius", token(cm={"place": [1, 2]}), "malformed"),
    ("place off the earth", token(cm={"place": [91, 2, 3]}), "malformed"),
]


@pytest.mark.parametrize(("text", "reason"), [each[1:] for each in DENIED], ids=[each[0] for each in DENIED])
def test_a_token_that_is_not_right_is_denied_for_a_reason_that_tells_nothing_of_it(
    text: str, reason: str, keys: Keys
) -> None:
    with pytest.raises(DeniedError) as denied:
        verify(text, keys, RULES, NOW)
    assert (denied.value.status, denied.value.code, denied.value.reason) == (401, "unauthorized", reason)
    assert not any(part in denied.value.detail for part in text.split(".") if len(part) > 8)


JUST_RIGHT: list[tuple[str, str]] = [
    ("exp past by less than the leeway", token(exp=NOW - 29, iat=NOW - 60)),
    ("nbf to come within the leeway", token(nbf=NOW + 30)),
    ("iat to come within the leeway", token(iat=NOW + 30)),
    ("as long as allowed", token(exp=NOW + 86_400)),
    ("without iat as long as allowed", token(exp=NOW + 86_430, iat=None)),
    ("exp with a fraction", token(exp=NOW + 0.5)),
    ("a list of aud", token(aud=["other", AUDIENCE])),
    ("ES256", signer("ES256", "k2").token("a", iat=NOW, exp=NOW + 600)),
    ("RS256", signer("RS256", "k3").token("a", iat=NOW, exp=NOW + 600)),
    ("another typ", token(header={"typ": "at+jwt"})),
    ("unknown claims", token(name="Ada", admin=True)),
]


@pytest.mark.parametrize("text", [each[1] for each in JUST_RIGHT], ids=[each[0] for each in JUST_RIGHT])
def test_a_token_that_is_just_right_is_taken(text: str, keys: Keys) -> None:
    permit = verify(text, keys, RULES, NOW)
    assert (permit.app, permit.device, permit.subject, permit.tags) == ("default", "a", "a", None)


def test_all_that_a_token_says_is_in_its_permit(keys: Keys) -> None:
    limits = {"tags": ["red", ""], "radius": 500, "rate": 20, "bytes": 1e4, "place": [52, 13.5, 1000]}
    text = token("e\u0301", app="démo", jti="t1", cm=limits)
    assert verify(text, keys, RULES, NOW) == Permit(
        app="démo",
        device="é",
        subject="e\u0301",
        expires=NOW + 600,
        issued=NOW,
        token_id="t1",  # noqa: S106  # its number
        tags=("red", ""),
        radius=500.0,
        rate=20.0,
        bytes=10_000.0,
        place=Place(52.0, 13.5, 1000.0),
    )


def test_with_a_shared_secret_only_what_that_signs_is_taken() -> None:
    rules, keys = RULES._replace(algorithms=("HS256",)), shared(SECRET)
    given = {"iss": ISSUER, "aud": AUDIENCE, "sub": "a", "exp": NOW + 600}
    assert verify(jwt.encode(given, SECRET, "HS256"), keys, rules, NOW).device == "a"
    with pytest.raises(DeniedError) as denied:
        verify(jwt.encode(given, b"t" * 32, "HS256"), keys, rules, NOW)
    assert denied.value.reason == "signature"
    with pytest.raises(DeniedError) as denied:
        verify(token(), keys, rules, NOW)
    assert denied.value.reason == "algorithm"


@given(st.text() | st.binary().map(lambda data: base64.urlsafe_b64encode(data).decode()), st.binary())
def test_whatever_is_sent_is_denied_and_nothing_else(text: str, data: bytes) -> None:
    keys = read(jwk_set(OURS.published()), ALL)[0]
    for each in (text, f"{text}.{text}.{text}", STRANGER.token(iat=NOW) + text, forged({"alg": text})):
        with pytest.raises(DeniedError):
            verify(each, keys, RULES, NOW)
    with pytest.raises(DeniedError):
        verify(signed(data), keys, RULES, NOW)


def test_what_is_wrong_at_first_sight_costs_no_signature(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = []
    monkeypatch.setattr(Key, "signed", lambda *of: verified.append(of))
    for text in (token(exp=NOW - 100, iat=NOW - 200), token(iss="x"), forged({"alg": "EdDSA", "kid": "k9"})):
        with pytest.raises(DeniedError):
            verify(text, keys, RULES, NOW)
    assert verified == []
    with pytest.raises(DeniedError):
        verify(token(), keys, RULES, NOW)
    assert len(verified) == 1
