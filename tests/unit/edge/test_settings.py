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
