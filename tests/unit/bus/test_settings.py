"""Settings: invalid values are refused by the name of their variable."""

import pytest

from cloudmatch_bus.process.settings import (
    AmqpSettings,
    CommonSettings,
    HttpSettings,
    SettingsError,
    describe,
    error_text,
    read,
    unknown,
)
from cloudmatch_edge.settings import EdgeSettings


def test_defaults_hold_and_an_empty_value_counts_as_absent() -> None:
    assert read(AmqpSettings, {"CLOUDMATCH_AMQP_URL": ""}).address == "amqp://guest:guest@127.0.0.1:5672/"
    assert read(AmqpSettings, {"CLOUDMATCH_AMQP_PORT": "1"}).address == "amqp://guest:guest@127.0.0.1:1/"


def test_a_url_takes_precedence_over_the_port() -> None:
    environ = {"CLOUDMATCH_AMQP_URL": "amqp://a", "CLOUDMATCH_AMQP_PORT": "3"}
    assert read(AmqpSettings, environ).address == "amqp://a"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CLOUDMATCH_EDGE_PORT", "abc"),
        ("CLOUDMATCH_EDGE_PORT", "-1"),
        ("CLOUDMATCH_EDGE_PORT", "65536"),
        ("CLOUDMATCH_EDGE_MAX_PAYLOAD", "0"),
        ("CLOUDMATCH_EDGE_NAME", "x" * 65),
        ("CLOUDMATCH_EDGE_INDEX", "-1"),
    ],
)
def test_an_invalid_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(EdgeSettings, {name: value})
    assert str(refused.value).startswith(f"{name}={value!r} cannot be used: ")


def test_unknown_variables_with_known_prefixes_are_found() -> None:
    environ = {
        "CLOUDMATCH_EDGE_PROT": "1",
        "CLOUDMATCH_EDGE_PORT": "1",
        "CLOUDMATCH_JOURNAL_X": "1",
        "HOME": "/",
    }
    assert unknown([EdgeSettings, AmqpSettings], environ) == ["CLOUDMATCH_EDGE_PROT"]


def test_variables_that_only_share_the_prefix_of_all_are_not_unknown() -> None:
    assert unknown([CommonSettings], {"CLOUDMATCH_JOURNAL_X": "1"}) == []


def test_origins_are_normalized_and_anything_else_is_refused_at_start() -> None:
    assert read(HttpSettings, {}).allowed_origins == []
    settings = read(HttpSettings, {"CLOUDMATCH_HTTP_ORIGINS": "http://A:1/, https://b:443"})
    settings.check()
    assert settings.allowed_origins == ["http://a:1", "https://b"]
    for wrong in ("a:1", "http://a/x", "http://a http://b"):
        with pytest.raises(
            SettingsError, match=r"CLOUDMATCH_HTTP_ORIGINS='.*' cannot be used: '.*' is no origin"
        ):
            read(HttpSettings, {"CLOUDMATCH_HTTP_ORIGINS": wrong}).check()


def test_every_setting_is_described() -> None:
    for group in (AmqpSettings, HttpSettings, CommonSettings):
        assert all(description for _, _, description in describe(group))
    assert ("CLOUDMATCH_LOG_LEVEL", "INFO") in [row[:2] for row in describe(CommonSettings)]


def test_an_error_is_explained_without_its_file_name_and_never_by_nothing() -> None:
    assert error_text(OSError(2, "No such file or directory", "secret")) == "No such file or directory"
    assert error_text(ValueError("not ASCII")) == "not ASCII"
    assert error_text(ValueError()) == "ValueError"
