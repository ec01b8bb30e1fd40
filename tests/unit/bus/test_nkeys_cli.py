"""The keys by which the server recognizes its users."""

import stat
from pathlib import Path

import nkeys  # type: ignore[import-untyped]  # it has no types
import pytest

from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract import permissions
from cloudmatch_bus.contract.permissions import USERS
from cloudmatch_bus.tools import nkeys_cli


def test_every_user_gets_a_key_that_only_its_owner_can_read(tmp_path: Path) -> None:
    nkeys_cli.make(folder := tmp_path / "keys")
    accepted = (folder / "users.conf").read_text()
    for user in (*USERS, "sys"):
        file = nkeys_cli.seed_path(folder, user)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert f"nkey: {nkeys_cli.public_key(file.read_text().strip())}" in accepted
        assert file.read_text().strip() not in accepted
        assert NatsSettings(nkey_file=str(file)).seed() == file.read_text().strip()
    assert {f.name for f in folder.iterdir()} == {*permissions.SERVICES, "users.conf", "people"}


def test_keys_that_exist_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nkeys_cli.make(folder := tmp_path / "keys")
    before = (folder / "users.conf").read_text()
    with pytest.raises(SystemExit) as ended:
        nkeys_cli.make(folder)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("cloudmatch-keys: ")
    assert (folder / "users.conf").read_text() == before


def test_while_keys_are_rotated_the_server_accepts_old_and_new_ones(tmp_path: Path) -> None:
    nkeys_cli.make(old := tmp_path / "old")
    nkeys_cli.make(new := tmp_path / "new")
    both = nkeys_cli.users_conf(old, new)
    for folder in (old, new):
        key = nkeys_cli.public_key((folder / "edge").read_text().strip())
        assert f"{{ nkey: {key}, permissions: $RIGHTS_EDGE }}" in both


def test_users_are_printed_or_the_missing_seed_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nkeys_cli.make(folder := tmp_path / "keys")
    nkeys_cli.show_users([folder])
    assert capsys.readouterr().out == (folder / "users.conf").read_text()
    (folder / "journal").unlink()
    with pytest.raises(SystemExit):
        nkeys_cli.show_users([folder])
    assert "journal" in capsys.readouterr().err


def test_a_seed_is_one_of_a_user_and_signs(tmp_path: Path) -> None:
    seed = nkeys_cli.make_seed()
    assert seed.startswith("SU")
    pair = nkeys.from_seed(bytearray(seed.encode()))
    assert pair.verify(b"nonce", pair.sign(b"nonce"))
