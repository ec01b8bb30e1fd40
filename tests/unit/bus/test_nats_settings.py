"""Settings of the connection to NATS: unusable files are named, secrets are not shown."""

from pathlib import Path

import pytest

from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.process.settings import SettingsError, read
from cloudmatch_bus.tools import nkeys_cli


def test_without_a_url_the_server_is_local() -> None:
    assert read(NatsSettings, {"CLOUDMATCH_NATS_PORT": ""}).servers == ["nats://127.0.0.1:4222"]
    assert read(NatsSettings, {"CLOUDMATCH_NATS_PORT": "5"}).servers == ["nats://127.0.0.1:5"]


def test_urls_take_precedence_over_the_port() -> None:
    settings = read(
        NatsSettings, {"CLOUDMATCH_NATS_URL": "nats://a:1,nats://b:2", "CLOUDMATCH_NATS_PORT": "3"}
    )
    assert settings.servers == ["nats://a:1", "nats://b:2"]


def test_an_invalid_url_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="CLOUDMATCH_NATS_URL='localhost' cannot be used"):
        read(NatsSettings, {"CLOUDMATCH_NATS_URL": "localhost"})


def test_without_files_there_is_no_key_and_certificates_are_the_systems() -> None:
    settings = NatsSettings()
    settings.check()
    assert settings.seed() is None
    assert settings.tls() is None


def test_a_file_without_a_seed_is_refused_without_showing_its_content(tmp_path: Path) -> None:
    file = tmp_path / "seed"
    file.write_text("SUNOSEED")
    with pytest.raises(SettingsError, match="CLOUDMATCH_NATS_NKEY_FILE contains no nkey seed") as refused:
        NatsSettings(nkey_file=str(file)).check()
    assert "SUNOSEED" not in str(refused.value)


def test_a_seed_given_in_place_of_a_file_is_refused_without_showing_it() -> None:
    seed = nkeys_cli.make_seed()
    with pytest.raises(SettingsError, match="CLOUDMATCH_NATS_NKEY_FILE") as refused:
        NatsSettings(nkey_file=seed).check()
    assert seed not in str(refused.value)


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="CLOUDMATCH_NATS_CA_FILE='/nowhere' contains no certificates"):
        NatsSettings(ca_file="/nowhere").check()
    (file := tmp_path / "ca.crt").write_text("nothing")
    with pytest.raises(SettingsError, match="CLOUDMATCH_NATS_CA_FILE"):
        NatsSettings(ca_file=str(file)).check()
