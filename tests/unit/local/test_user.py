"""Everything runs as another user, if root says so; else one sentence says why not."""

import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from cloudmatch_local.user import UserError, become

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
ME = pwd.getpwuid(os.geteuid()).pw_name
BECOME = """
    import os, subprocess, sys
    from pathlib import Path
    from cloudmatch_local.user import UserError, become
    folder = Path(sys.argv[1])
    os.umask(0o077)
    try:
        changed = become("nobody", folder, [folder, *map(Path, sys.argv[2:])])
    except UserError as error:
        sys.exit(f"{error}")
    (folder / "made").touch()
    print(changed["USER"], changed["HOME"] != "/root", os.getgroups() == [os.getgid()])
    print(subprocess.run(["id", "-un"], stdout=subprocess.PIPE, text=True).stdout)
"""


def ran(folder: Path, *read: Path) -> subprocess.CompletedProcess[str]:
    """Become nobody in a process of its own."""
    command = [sys.executable, "-c", dedent(BECOME), str(folder), *map(str, read)]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environ)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that others may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="cloudmatch-user-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@ROOT_ONLY
def test_all_that_is_started_runs_as_the_user_in_a_folder_of_its_own(open_folder: Path) -> None:
    folder = open_folder / "new/run"
    done = ran(folder)
    assert (done.stdout.split(), done.stderr) == (["nobody", "True", "True", "nobody"], "")
    assert {each.stat().st_uid for each in (folder.parent, folder, folder / "made")} == {
        pwd.getpwnam("nobody").pw_uid
    }
    assert folder.stat().st_mode & 0o777 == 0o700
    assert ran(folder).returncode == 0  # and once more


@ROOT_ONLY
def test_a_folder_of_somebody_else_is_refused_and_left_as_it_is(open_folder: Path) -> None:
    folder = open_folder / "run"
    folder.mkdir()
    done = ran(folder)
    assert done.stderr.startswith(f"{folder} is not nobody's: `chown -R nobody {folder}`")
    assert folder.stat().st_uid == 0


@ROOT_ONLY
def test_what_the_user_may_not_read_is_named(open_folder: Path) -> None:
    secret = open_folder / "secret"
    secret.touch(0o600)
    done = ran(open_folder / "run", secret)
    assert done.stderr == f"CLOUDMATCH_LOCAL_USER=nobody cannot be used: nobody may not read {secret}\n"


def test_a_user_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="CLOUDMATCH_LOCAL_USER=who cannot be used: there is no such user"):
        become("who", tmp_path, [])


def test_only_root_can_become_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(UserError, match="only root can start everything as another user"):
        become(ME, tmp_path, [])


def test_whoever_starts_it_may_be_named(tmp_path: Path) -> None:
    assert become(ME, tmp_path, [tmp_path])["USER"] == ME
