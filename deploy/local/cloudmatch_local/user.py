"""Run everything as a user without rights of its own, though `up` was started by root."""

import os
import pwd
from collections.abc import Iterable
from pathlib import Path

from cloudmatch_bus.process.settings import variable
from cloudmatch_local.settings import LocalSettings


class UserError(ValueError):
    """Nothing can run as this user; the message is one sentence that says what to change."""


def become(name: str, folder: Path, read: Iterable[Path]) -> dict[str, str]:
    """Become a user, for good: this process, and all that it starts; return the user's environment.

    Args:
        folder: for everything written at run time; made for the user if there is none.
        read: what the user must be able to read.

    Raises:
        UserError: impossible.
    """
    setting = f"{variable(LocalSettings, 'user')}={name}"
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise UserError(f"{setting} cannot be used: there is no such user") from None
    if user.pw_uid != os.geteuid():
        if os.geteuid() != 0:
            raise UserError(f"{setting} cannot be used: only root can start everything as another user")
        _make(folder, user)
        os.initgroups(name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    for path in read:
        if not os.access(path, os.R_OK):
            raise UserError(f"{setting} cannot be used: {name} may not read {path}")
    return {"HOME": user.pw_dir, "USER": name, "LOGNAME": name}


def _make(folder: Path, user: pwd.struct_passwd) -> None:
    for each in [each for each in (folder, *folder.parents) if not each.exists()][::-1]:
        each.mkdir()
        os.chown(each, user.pw_uid, user.pw_gid)
    if folder.stat().st_uid != user.pw_uid:
        raise UserError(
            f"{folder} is not {user.pw_name}'s: `chown -R {user.pw_name} {folder}`, or set CLOUDMATCH_RUN_DIR"
        )
