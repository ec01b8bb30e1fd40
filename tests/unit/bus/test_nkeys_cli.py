"""The keys by which the servers know roles, and the credentials of processes."""

import stat
import subprocess
import sys
from pathlib import Path

import nkeys  # type: ignore[import-untyped]  # it has no types
import pytest

from cloudmatch_bus.client.settings import NatsSettings
from cloudmatch_bus.contract import permissions
from cloudmatch_bus.tools import nkeys_cli
from cloudmatch_bus.tools.nkeys_cli import Key

ROOT = Path(__file__).parents[3]
LOCAL = ROOT / "deploy/kustomize/overlays/local/keys"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """New keys."""
    nkeys_cli.make(folder := tmp_path / "keys")
    return folder


def test_every_role_gets_a_key_that_only_its_owner_can_read(folder: Path) -> None:
    files = [each for each in folder.rglob("*") if each.is_file()]
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}
    assert {stat.S_IMODE(each.stat().st_mode) for each in (folder, folder / "people")} == {0o700}
    assert {each.name for each in folder.iterdir()} == {
        *permissions.SERVICES,
        "account.pub",
        "accounts.conf",
        "people",
    }
    accepted = (folder / "accounts.conf").read_text()
    for role in (*permissions.ROLES, "sys"):
        seed = nkeys_cli.seed_path(folder, role).read_text().strip()
        assert seed.startswith("SA")
        assert seed not in accepted


def test_people_get_credentials_and_a_process_gets_them_in_its_name(folder: Path, tmp_path: Path) -> None:
    for role in ("operator", "trace", "sys"):
        known = NatsSettings(credentials_file=str(nkeys_cli.credentials_path(folder, role))).credentials()
        assert known is not None
        assert known.name == role
    nkeys_cli.mint_credentials(folder, "edge", "edge.0", file := tmp_path / "edge.creds")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    known = NatsSettings(credentials_file=str(file)).credentials()
    assert known is not None
    assert known.name == "edge=2E0"
    pair = nkeys.from_seed(bytearray(known.seed.encode()))
    assert pair.verify(b"nonce", pair.sign(b"nonce"))
    nkeys_cli.mint_credentials(folder, "edge", "edge.0", file)
    again = NatsSettings(credentials_file=str(file)).credentials()
    assert again is not None
    assert again.seed != known.seed


def test_keys_that_exist_are_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "accounts.conf").read_text()
    with pytest.raises(SystemExit) as ended:
        nkeys_cli.make(folder)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("cloudmatch-keys: ")
    assert (folder / "accounts.conf").read_text() == before


def test_while_keys_are_rotated_the_server_accepts_old_and_new_ones(folder: Path, tmp_path: Path) -> None:
    nkeys_cli.make(new := tmp_path / "new", folder)
    assert (new / "account.pub").read_text() == (folder / "account.pub").read_text()
    assert nkeys_cli.accounts_conf(folder, folder) == nkeys_cli.accounts_conf(folder)
    both, only_new = nkeys_cli.accounts_conf(folder, new), nkeys_cli.accounts_conf(new)
    assert only_new == (new / "accounts.conf").read_text()
    assert len(both) > len(only_new)
    assert Key.read(folder / "edge").public != Key.read(new / "edge").public


def test_accounts_are_printed_or_the_missing_seed_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nkeys_cli.show_accounts([folder])
    assert capsys.readouterr().out == (folder / "accounts.conf").read_text()
    (folder / "journal").unlink()
    with pytest.raises(SystemExit):
        nkeys_cli.show_accounts([folder])
    assert "journal" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        nkeys_cli.mint_credentials(folder, "journal", "journal-0", folder / "file")
    assert "journal" in capsys.readouterr().err
    assert not (folder / "file").exists()


def test_the_command_runs_in_images_which_lack_the_libraries_of_other_tools(folder: Path) -> None:
    file = folder / "edge-7.creds"
    lacking = "import sys; sys.modules |= dict.fromkeys(('typer', 'rich')); "
    start = "from cloudmatch_bus.tools import nkeys_cli; nkeys_cli.main()"
    command = [sys.executable, "-c", lacking + start, "mint", folder, "edge", "edge-7", file]
    subprocess.run(command, check=True, timeout=60)
    known = NatsSettings(credentials_file=str(file)).credentials()
    assert known is not None
    assert known.name == "edge-7"


def test_rights_may_include_those_of_the_previous_version(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cloudmatch-keys", "accounts", "--rolling", str(folder)])
    nkeys_cli.main()
    shown = capsys.readouterr().out
    assert shown == nkeys_cli.accounts_conf(folder, rolling=True)
    assert shown != nkeys_cli.accounts_conf(folder)


def test_the_local_environment_has_the_rights_of_this_version() -> None:
    text = (LOCAL / "accounts.conf").read_text()
    assert text == nkeys_cli.accounts_conf(LOCAL), f"cloudmatch-keys accounts {LOCAL}"
