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


def test_without_files_there_are_no_credentials_and_certificates_are_the_systems() -> None:
    settings = NatsSettings()
    settings.check()
    assert settings.credentials() is None
    assert settings.tls() is None


def test_a_file_without_credentials_is_refused_without_showing_its_content(tmp_path: Path) -> None:
    file = tmp_path / "edge.creds"
    file.write_text("SUNOSEED")
    with pytest.raises(SettingsError, match="CLOUDMATCH_NATS_CREDENTIALS_FILE contains no") as refused:
        NatsSettings(credentials_file=str(file)).check()
    assert "SUNOSEED" not in str(refused.value)


def test_a_seed_given_in_place_of_a_file_is_refused_without_showing_it() -> None:
    with pytest.raises(SettingsError, match="CLOUDMATCH_NATS_CREDENTIALS_FILE") as refused:
        NatsSettings(credentials_file="SU7").check()
    assert "SU7" not in str(refused.value)


def test_beside_make_up_its_credentials_are_used_unless_others_or_another_server_are_set(
    tmp_path: Path,
) -> None:
    (tmp_path / "keys").mkdir()
    (file := tmp_path / "keys/trace.creds").touch()

    def found(settings: NatsSettings, name: str = "trace.creds") -> str:
        return settings.beside_up(str(tmp_path), name).credentials_file

    assert found(NatsSettings()) == str(file)
    assert found(NatsSettings(), "other.creds") == ""
    assert found(NatsSettings(credentials_file="own")) == "own"
    assert found(NatsSettings(url="nats://a:1")) == ""


def test_credentials_of_another_process_are_refused_by_name(tmp_path: Path) -> None:
    nkeys_cli.make_keys(tmp_path / "keys")
    file = tmp_path / "edge.creds"
    nkeys_cli.write(file, nkeys_cli.mint(tmp_path / "keys", "edge", "edge.0"))
    settings = NatsSettings(credentials_file=str(file))
    settings.check_name("edge.0")
    with pytest.raises(SettingsError, match="CREDENTIALS_FILE is of 'edge=2E0', not of 'edge-1'"):
        settings.check_name("edge-1")
    NatsSettings().check_name("edge-1")


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="CLOUDMATCH_NATS_CA_FILE='/nowhere' contains no certificates"):
        NatsSettings(ca_file="/nowhere").check()
    (file := tmp_path / "ca.crt").write_text("nothing")
    with pytest.raises(SettingsError, match="CLOUDMATCH_NATS_CA_FILE"):
        NatsSettings(ca_file=str(file)).check()
