"""Make the keys of the bus, and credentials for its processes: ``cloudmatch-keys``.

The servers have JWTs only. The seeds of roles make credentials, each for one process; whoever holds a role's
seed can be any process of that role, so a service gets its credentials alone.
"""

import argparse
import contextlib
import inspect
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nkeys  # type: ignore[import-untyped]  # it has no types

from cloudmatch_bus.contract import credentials, permissions, subjects

PEOPLE = "people"  # folder of what no process needs
ACCOUNTS_CONF = "accounts.conf"  # for the server
ACCOUNT = "account.pub"  # public key of the bus' account: credentials name it
AUTHORITY = {  # seed → its prefix; they outlive those of roles
    "authority": nkeys.PREFIX_BYTE_OPERATOR,
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "system": nkeys.PREFIX_BYTE_ACCOUNT,
}
OF_PEOPLE = ("operator", "trace", permissions.SYSTEM)


class Key:
    """A pair of keys, known by its seed."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self._pair = nkeys.from_seed(bytearray(seed.encode()))

    @classmethod
    def make(cls, prefix: int) -> "Key":
        """Make a new one."""
        return cls(bytes(nkeys.encode_seed(os.urandom(32), prefix)).decode())

    @classmethod
    def read(cls, file: Path) -> "Key":
        """Read a seed.

        Raises:
            OSError, nkeys.NkeysError: there is none.
        """
        return cls(file.read_text(encoding="ascii").strip())

    @property
    def public(self) -> str:
        """The public key."""
        return bytes(self._pair.public_key).decode()

    def issue(self, claims: credentials.Claims, at: int = 0) -> str:
        """Return a JWT of these claims, issued `at` (s since 1970)."""
        text = credentials.unsigned(claims, self.public, at)
        return credentials.signed(text, bytes(self._pair.sign(text.encode())))


def seed_path(folder: Path, role: str) -> Path:
    """Return the path of a role's seed in a folder of keys."""
    return folder / role if role in permissions.SERVICES else folder / PEOPLE / role


def credentials_path(folder: Path, role: str) -> Path:
    """Return the path of the credentials of people of this role."""
    return folder / PEOPLE / f"{role}.creds"


def _private(file: str, flags: int) -> int:
    return os.open(file, flags, 0o600)


def write(file: Path, text: str) -> None:
    """Write a new file, or in place of an old one, that only its owner can read."""
    file.unlink(missing_ok=True)
    with open(file, "x", encoding="ascii", opener=_private) as opened:
        opened.write(text)


def accounts_conf(*folders: Path, rolling: bool = False) -> str:
    """Render ``accounts.conf``, which knows the roles' seeds of all these folders.

    Raises:
        OSError, nkeys.NkeysError: a folder has no valid seed of some role.
    """
    authority, account, system = (Key.read(folders[0] / PEOPLE / name) for name in AUTHORITY)

    def public(role: str) -> list[str]:
        return list(dict.fromkeys(Key.read(seed_path(folder, role)).public for folder in folders))

    signing_keys = {role: public(role) for role in permissions.ROLES}
    of_bus = credentials.account_claims(account.public, signing_keys, rolling=rolling)
    of_system = credentials.system_claims(system.public, public(permissions.SYSTEM))
    return credentials.server_configuration(
        authority.issue(credentials.operator_claims(authority.public, system.public)),
        system.public,
        {
            account.public: authority.issue(of_bus),
            system.public: authority.issue(of_system),
        },
    )


def mint(folder: Path, role: str, name: str) -> str:
    """Return credentials of the process `name` of a role.

    Raises:
        OSError, nkeys.NkeysError: the folder has no valid seed of the role.
    """
    if role == permissions.SYSTEM:
        account = Key.read(folder / PEOPLE / "system").public
    else:
        account = (folder / ACCOUNT).read_text(encoding="ascii").strip()
    user = Key.make(nkeys.PREFIX_BYTE_USER)
    claims = credentials.user_claims(user.public, subjects.token(name), account)
    jwt = Key.read(seed_path(folder, role)).issue(claims, int(time.time()))
    return credentials.credentials_file(jwt, user.seed)


def make_keys(folder: Path, renewed: Path | None = None) -> None:
    """Make all keys in a new folder.

    Args:
        renewed: a folder whose accounts are kept, with all that they hold.

    Raises:
        OSError: the folder has keys, or cannot be written; or the other has none.
    """
    (folder / PEOPLE).mkdir(mode=0o700, parents=True)
    folder.chmod(0o700)
    for name, prefix in AUTHORITY.items():
        if renewed is None:
            write(folder / PEOPLE / name, f"{Key.make(prefix).seed}\n")
        else:
            shutil.copy(renewed / PEOPLE / name, folder / PEOPLE / name)
    for role in (*permissions.SERVICES, *OF_PEOPLE):
        write(seed_path(folder, role), f"{Key.make(nkeys.PREFIX_BYTE_ACCOUNT).seed}\n")
    write(folder / ACCOUNT, f"{Key.read(folder / PEOPLE / 'account').public}\n")
    write(folder / ACCOUNTS_CONF, accounts_conf(folder))
    for role in OF_PEOPLE:
        write(credentials_path(folder, role), mint(folder, role, role))


def make(folder: Path, renew: Path | None = None) -> None:
    """Make all keys of the bus.

    FOLDER/accounts.conf             for the servers: who may connect, and what they may do
    FOLDER/account.pub, edge, …      the seed of each service's role: for `mint`
    FOLDER/people/operator.creds, …  credentials of people
    FOLDER/people/authority, …       seeds of all that: keep them elsewhere
    """
    with _failures_said():
        make_keys(folder, renew)


def mint_credentials(folder: Path, role: str, name: str, file: Path) -> None:
    """Write credentials by which one process of a role is known on the bus. An edge's NAME is its own."""
    with _failures_said():
        write(file, mint(folder, role, name))


def show_accounts(folders: list[Path], *, rolling: bool = False) -> None:
    """Print accounts.conf for the seeds in a folder, or in several while keys are rotated.

    Also needed after an upgrade: it says what each role may do.
    """
    with _failures_said():
        sys.stdout.write(accounts_conf(*folders, rolling=rolling))


@contextlib.contextmanager
def _failures_said() -> Iterator[None]:
    """Exit with status 2 and a sentence if a file cannot be used."""
    try:
        yield
    except (OSError, ValueError, nkeys.NkeysError) as error:
        sys.stderr.write(f"cloudmatch-keys: {str(error) or type(error).__name__}\n")
        raise SystemExit(2) from None


def main() -> None:
    """Run the command. It is in images of services, so it needs no library of the other tools."""
    parser = argparse.ArgumentParser(prog="cloudmatch-keys", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Callable[..., None]) -> argparse.ArgumentParser:
        text = inspect.cleandoc(function.__doc__ or "")
        described = commands.add_parser(
            name,
            help=text.partition("\n")[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        described.set_defaults(function=function)
        return described

    making = command("make", make)
    making.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder")
    making.add_argument("--renew", type=Path, metavar="OLD", help="keep the accounts of this folder")
    minting = command("mint", mint_credentials)
    minting.add_argument("folder", type=Path, metavar="FOLDER", help="a folder of `make`")
    minting.add_argument("role", choices=(*permissions.ROLES, permissions.SYSTEM), metavar="ROLE")
    minting.add_argument("name", metavar="NAME", help="of the process")
    minting.add_argument("file", type=Path, metavar="FILE", help="to be written")
    showing = command("accounts", show_accounts)
    showing.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="a folder of `make`")
    showing.add_argument(
        "--rolling", action="store_true", help="allow what the previous version says, while it is replaced"
    )
    given = vars(parser.parse_args())
    given.pop("function")(**given)


if __name__ == "__main__":
    main()
