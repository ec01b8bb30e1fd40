"""Make keys for the users of the bus: ``cloudmatch-keys``. The server knows public keys, a user its seed."""

import os
import sys
from pathlib import Path
from typing import Annotated

import nkeys  # type: ignore[import-untyped]  # it has no types
import typer

from cloudmatch_bus.contract import permissions

PEOPLE = "people"  # the folder of those seeds that no process needs
ACCEPTED = "users.conf"  # public keys, for the server
INCLUDE = "include ./permissions.conf"  # here, not beside it: a file sees the variables of what it includes
OF_PEOPLE = ("operator", "trace", permissions.SYSTEM)

command = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


def make_seed() -> str:
    """Make a seed of a user's nkey."""
    return bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)).decode()


def public(seed: str) -> str:
    """Give the public key that belongs to a seed."""
    return bytes(nkeys.from_seed(bytearray(seed.encode())).public_key).decode()


def seed_path(folder: Path, user: str) -> Path:
    """Give where a user's seed is."""
    return folder / PEOPLE / user if user in OF_PEOPLE else folder / user


def _private(file: str, flags: int) -> int:
    return os.open(file, flags, 0o600)


def users(*folders: Path) -> str:
    """Render who may connect: the keys in these folders, each with its user's rights.

    Raises:
        OSError, nkeys.NkeysError: a user has no seed in one of them.
    """

    def entries(user: str, rights: str) -> list[str]:
        keys = [public(seed_path(folder, user).read_text(encoding="ascii").strip()) for folder in folders]
        return [f"      {{ nkey: {key}{rights} }} # {user}" for key in keys]

    return "\n".join(
        [
            "# Who may connect: public keys of users, made by cloudmatch-keys. It holds no secret.",
            INCLUDE,
            "",
            "accounts {",
            "  CLOUDMATCH {",
            "    jetstream: enabled",
            "    users: [",
            *(
                line
                for user in permissions.USERS
                for line in entries(user, f", permissions: ${permissions.variable(user)}")
            ),
            "    ]",
            "  }",
            "  SYS {",
            "    users: [",
            *entries(permissions.SYSTEM, ""),
            "    ]",
            "  }",
            "}",
            "system_account: SYS",
            "",
        ]
    )


@command.command("make")
def make(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.", show_default=False)],
) -> None:
    """Make a seed for every user of the bus, and the server's file of their public keys.

    \b
    FOLDER/edge, …           seeds of services
    FOLDER/people/operator…  seeds of people: keep them elsewhere
    FOLDER/users.conf        public keys, for the server
    """
    try:
        (folder / PEOPLE).mkdir(mode=0o700, parents=True)
        folder.chmod(0o700)
        for user in (*permissions.SERVICES, *OF_PEOPLE):
            with open(seed_path(folder, user), "x", encoding="ascii", opener=_private) as file:
                file.write(f"{make_seed()}\n")
        (folder / ACCEPTED).write_text(users(folder), encoding="ascii")
    except OSError as error:
        _fail(error)


@command.command("users")
def show_users(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER…", help="Folders of `make`.", show_default=False)
    ],
) -> None:
    """Print the server's file of public keys for the seeds in a folder, or, while keys change, in several."""
    try:
        sys.stdout.write(users(*folders))
    except (OSError, ValueError, nkeys.NkeysError) as error:
        _fail(error)


@command.command("rights")
def show_rights() -> None:
    """Print what each user may do: nats/permissions.conf."""
    sys.stdout.write(permissions.configuration())


def _fail(error: Exception) -> None:
    sys.stderr.write(f"cloudmatch-keys: {str(error) or type(error).__name__}\n")
    raise SystemExit(2) from None


def main() -> None:
    """Run the command."""
    command()


if __name__ == "__main__":
    main()
