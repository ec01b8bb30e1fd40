"""Settings: wrong ones are refused by the name of their variable."""

import pytest

from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process.settings import AmqpSettings, SettingsError, read, unknown
from cloudmatch_edge.settings import EdgeSettings


def test_defaults_hold_and_an_empty_value_is_no_value() -> None:
    assert read(NatsSettings, {"CLOUDMATCH_NATS_PORT": ""}).servers == ["nats://127.0.0.1:4222"]
    assert read(AmqpSettings, {"CLOUDMATCH_AMQP_PORT": "1"}).address == "amqp://guest:guest@127.0.0.1:1/"


def test_urls_take_the_place_of_ports() -> None:
    nats = read(NatsSettings, {"CLOUDMATCH_NATS_URL": "nats://a:1,nats://b:2", "CLOUDMATCH_NATS_PORT": "3"})
    assert nats.servers == ["nats://a:1", "nats://b:2"]


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
def test_a_wrong_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(EdgeSettings, {name: value})
    assert str(refused.value).startswith(f"{name}={value!r} cannot be used: ")


def test_a_wrong_url_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="CLOUDMATCH_NATS_URL='localhost' cannot be used"):
        read(NatsSettings, {"CLOUDMATCH_NATS_URL": "localhost"})


def test_unknown_variables_of_known_prefixes_are_named() -> None:
    environ = {
        "CLOUDMATCH_EDGE_PROT": "1",
        "CLOUDMATCH_EDGE_PORT": "1",
        "CLOUDMATCH_JOURNAL_X": "1",
        "HOME": "/",
    }
    assert unknown([EdgeSettings, NatsSettings], environ) == ["CLOUDMATCH_EDGE_PROT"]
