"""The settings of an edge."""

import pytest

from cloudmatch_bus.process.settings import SettingsError, read
from cloudmatch_edge.settings import EdgeSettings


def test_a_name_that_makes_subjects_too_long_is_refused() -> None:
    EdgeSettings(name="é" * 42).check()
    with pytest.raises(SettingsError, match=r"CLOUDMATCH_EDGE_NAME=.* has more than 255 bytes"):
        EdgeSettings(name="é" * 43).check()


def origins(text: str) -> list[str]:
    settings = read(EdgeSettings, {"CLOUDMATCH_EDGE_ORIGINS": text})
    settings.check()
    return settings.allowed_origins


def test_origins_are_trimmed_and_normalized() -> None:
    assert origins("https://a, https://B:443/ ,") == ["https://a", "https://b"]
    assert origins("*") == ["*"]
    assert origins("") == []


@pytest.mark.parametrize("text", ["a.example", "https://a/path", "https://a https://b", "https://*.a"])
def test_what_is_no_list_of_origins_is_refused_by_the_name_of_the_setting(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        origins(text)
    assert str(refused.value) == (
        f"CLOUDMATCH_EDGE_ORIGINS={text!r} cannot be used: {text!r} is no origin, "
        "such as https://example.com or http://localhost:3000"
    )


def test_proxies_are_addresses_and_networks() -> None:
    settings = read(EdgeSettings, {"CLOUDMATCH_EDGE_TRUSTED_PROXIES": "10.0.0.0/8, ::1,"})
    settings.check()
    assert [str(each) for each in settings.proxies] == ["10.0.0.0/8", "::1/128"]
    assert EdgeSettings().proxies == []


@pytest.mark.parametrize("text", ["proxy.example", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.1:80"])
def test_what_is_no_network_is_refused_by_the_name_of_the_setting(text: str) -> None:
    with pytest.raises(SettingsError, match=f"CLOUDMATCH_EDGE_TRUSTED_PROXIES='{text}' cannot be used: "):
        EdgeSettings(trusted_proxies=text).check()


JWT = {"auth": "jwt", "auth_issuer": "https://issuer.example"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "edge.example"])  # noqa: S104  # refused
def test_beyond_loopback_an_edge_does_not_start_until_it_is_told_who_may_connect(host: str) -> None:
    with pytest.raises(SettingsError, match=f"EDGE_AUTH must be set, as CLOUDMATCH_EDGE_HOST={host}"):
        EdgeSettings(host=host).check()
    EdgeSettings(host=host, auth="none").check()
    EdgeSettings(host=host, **JWT, auth_jwks="/etc/keys.json").check()  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_loopback_anybody_may_connect(host: str) -> None:
    EdgeSettings(host=host).check()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"auth": "jwt", "auth_jwks": "/k"}, "AUTH=jwt needs CLOUDMATCH_EDGE_AUTH_ISSUER"),
        (JWT, "AUTH=jwt needs CLOUDMATCH_EDGE_AUTH_JWKS, or CLOUDMATCH_EDGE_AUTH_SECRET_FILE instead"),
        (
            {**JWT, "auth_jwks": "/k", "auth_secret_file": "/s"},
            "AUTH=jwt needs CLOUDMATCH_EDGE_AUTH_JWKS, or",
        ),
        ({**JWT, "auth_jwks": "http://issuer.example/keys"}, "it is no https:// URL"),
        ({**JWT, "auth_jwks": "https:///keys"}, "it is no https:// URL"),
        ({**JWT, "auth_jwks": "https://me:secret@issuer.example/"}, "it is no https:// URL"),
        ({**JWT, "auth_jwks": "https://issuer.example:port/"}, "it is no https:// URL"),
        ({**JWT, "auth_jwks": "/k", "auth_algorithms": "EdDSA,none"}, "goes with ES256, EdDSA, RS256 only"),
        ({**JWT, "auth_jwks": "/k", "auth_algorithms": "HS256"}, "goes with ES256, EdDSA, RS256 only"),
        ({**JWT, "auth_jwks": "/k", "auth_algorithms": ","}, "goes with ES256, EdDSA, RS256 only"),
        ({**JWT, "auth_secret_file": "/s"}, "AUTH_SECRET_FILE goes with HS256 only"),
        ({**JWT, "auth_secret_file": "/s", "auth_algorithms": "HS256,RS256"}, "goes with HS256 only"),
    ],
)
def test_what_tokens_need_is_said_at_start(settings: dict[str, str], why: str) -> None:
    with pytest.raises(SettingsError) as refused:
        EdgeSettings(**settings).check()  # type: ignore[arg-type]
    assert why in str(refused.value)


def test_tokens_with_public_keys_or_with_a_secret_are_possible() -> None:
    EdgeSettings(**JWT, auth_jwks="https://issuer.example:8443/keys?v=1").check()  # type: ignore[arg-type]
    settings = EdgeSettings(**JWT, auth_secret_file="/s", auth_algorithms=" HS256")  # type: ignore[arg-type] # noqa: S106
    settings.check()
    assert settings.algorithms == ("HS256",)
