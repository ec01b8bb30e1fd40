"""JWTs and files of credentials: what they contain, and what is none."""

import base64
from typing import Any

import msgspec
import pytest

from cloudmatch_bus.contract import credentials, permissions
from cloudmatch_bus.contract.credentials import Credentials


def body(text: str) -> Any:
    """Claims in a JWT."""
    part = text.split(".")[1]
    return msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_a_jwt_names_its_issuer_its_time_and_itself() -> None:
    claims = credentials.user_claims("UKEY", "edge-0", "AKEY")
    text = credentials.unsigned(claims, "AISSUER", 7)
    found = body(text)
    assert (found["iss"], found["iat"], found["sub"], found["name"]) == ("AISSUER", 7, "UKEY", "edge-0")
    assert found["nats"] == {"type": "user", "version": 2, "issuer_account": "AKEY"}
    assert len(found["jti"]) == 52
    assert credentials.unsigned(claims, "AISSUER", 7) == text
    assert body(credentials.unsigned(claims, "AISSUER", 8))["jti"] != found["jti"]
    assert credentials.signed(text, b"\xff" * 64) == f"{text}.{'_' * 85}w"


def test_an_account_limits_each_role_to_its_template_and_nothing_else() -> None:
    nats = credentials.account_claims("AKEY", {"edge": ["A1", "A2"], "trace": ["A3"]})["nats"]
    assert isinstance(nats, dict)
    assert nats["signing_keys"] == [
        {"kind": "user_scope", "key": key, "role": role, "template": permissions.template(role)}
        for role, key in (("edge", "A1"), ("edge", "A2"), ("trace", "A3"))
    ]
    assert nats["limits"]["disk_storage"] == nats["limits"]["mem_storage"] == -1


def test_the_system_account_has_no_jetstream_and_the_operator_names_it() -> None:
    system = credentials.system_claims("ASYS", ["A1"])["nats"]
    assert isinstance(system, dict)
    assert system["signing_keys"] == ["A1"]
    assert "streams" not in system["limits"]
    operator = credentials.operator_claims("OKEY", "ASYS")["nats"]
    assert isinstance(operator, dict)
    assert operator["system_account"] == "ASYS"


def test_the_servers_file_has_what_it_gets() -> None:
    text = credentials.server_configuration("a.b.c", "ASYS", {"ABUS": "d.e.f", "ASYS": "g.h.i"})
    assert 'operator: "a.b.c"\nsystem_account: ASYS\nresolver: MEMORY\n' in text
    assert '{\n  ABUS: "d.e.f"\n  ASYS: "g.h.i"\n}\n' in text


def test_credentials_are_read_as_written() -> None:
    claims = credentials.user_claims("UKEY", "edge=2E0", "AKEY")
    jwt = credentials.signed(credentials.unsigned(claims, "AISSUER"), b"signature")
    text = credentials.credentials_file(jwt, "SU7")
    assert credentials.parse_credentials(text) == Credentials("edge=2E0", jwt, "SU7")
    assert credentials.parse_credentials(text.replace("\n", "\r\n")).seed == "SU7"


@pytest.mark.parametrize("jwt", ["a.b.c", "a.e30.c", "a.bm8.c", "a.W10.c", "a.é.c", "a..b"])
def test_credentials_whose_jwt_says_no_name_are_refused(jwt: str) -> None:
    with pytest.raises(ValueError, match="credentials of NATS"):
        credentials.parse_credentials(credentials.credentials_file(jwt, "SU7"))


@pytest.mark.parametrize("text", ["", "SU7", "-----BEGIN NATS USER JWT-----\na.b.c\n"])
def test_what_is_no_file_of_credentials_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no credentials of NATS"):
        credentials.parse_credentials(text)
