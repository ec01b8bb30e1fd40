"""Create nkeys for the users of the bus: ``cloudmatch-keys``.

The server has the public keys, each user its own seed.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import nkeys  # type: ignore[import-untyped]  # it has no types
import typer

from cloudmatch_bus.contract import permissions

PEOPLE = "people"  # folder of the seeds that no process needs
USERS_CONF = "users.conf"  # public keys, for the server
INCLUDE = (
    "include ./permissions.conf"  # from users.conf itself: a file sees the variables of files it includes
)
OF_PEOPLE = ("operator", "trace", permissions.SYSTEM)

command = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


def make_seed() -> str:
    """Create the seed of a user's nkey."""
    return bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)).decode()


def public_key(seed: str) -> str:
    """Return the public key of a seed."""
    return bytes(nkeys.from_seed(bytearray(seed.encode())).public_key).decode()


def seed_path(folder: Path, user: str) -> Path:
    """Return the path of a user's seed in a folder of keys."""
    return folder / PEOPLE / user if user in OF_PEOPLE else folder / user


def _private(file: str, flags: int) -> int:
    return os.open(file, flags, 0o600)


def users_conf(*folders: Path) -> str:
    """Render ``users.conf``: the public keys of the seeds in these folders, each with its user's rights.

    Raises:
        OSError, nkeys.NkeysError: a folder has no valid seed of some user.
    """

    def entries(user: str, rights: str = "") -> str:
        keys = [public_key(seed_path(folder, user).read_text(encoding="ascii").strip()) for folder in folders]
        return "\n".join(f"      {{ nkey: {key}{rights} }} # {user}" for key in keys)

    users = [entries(user, f", permissions: ${permissions.variable(user)}") for user in permissions.USERS]
    return f"""\
# Who may connect: public keys of users, made by cloudmatch-keys. It holds no secret.
{INCLUDE}

accounts {{
  CLOUDMATCH {{
    jetstream: enabled
    users: [
{chr(10).join(users)}
    ]
  }}
  SYS {{
    users: [
{entries(permissions.SYSTEM)}
    ]
  }}
}}
system_account: SYS
"""


@command.command("make")
def make(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.", show_default=False)],
) -> None:
    """Create a seed for every user of the bus, and the file of their public keys for the server.

    \b
    FOLDER/edge, …           seeds of services
    FOLDER/people/operator…  seeds of people: move them elsewhere
    FOLDER/users.conf        public keys, for the server
    """
    try:
        (folder / PEOPLE).mkdir(mode=0o700, parents=True)
        folder.chmod(0o700)
        for user in (*permissions.SERVICES, *OF_PEOPLE):
            with open(seed_path(folder, user), "x", encoding="ascii", opener=_private) as file:
                file.write(f"{make_seed()}\n")
        (folder / USERS_CONF).write_text(users_conf(folder), encoding="ascii")
    except OSError as error:
        _fail(error)


@command.command("users")
def show_users(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER…", help="Folders of `make`.", show_default=False)
    ],
) -> None:
    """Print users.conf for the seeds in a folder, or in several while keys are rotated."""
    try:
        sys.stdout.write(users_conf(*folders))
    except (OSError, ValueError, nkeys.NkeysError) as error:
        _fail(error)


@command.command("rights")
def show_rights() -> None:
    """Print the permissions of all users: nats/permissions.conf."""
    sys.stdout.write(permissions.configuration())


def _fail(error: Exception) -> None:
    sys.stderr.write(f"cloudmatch-keys: {str(error) or type(error).__name__}\n")
    raise SystemExit(2) from None


def main() -> None:
    """Run the command."""
    command()


if __name__ == "__main__":
    main()
