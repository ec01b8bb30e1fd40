"""What NATS servers and their clients hold to know each other: JWTs, and files of credentials. Pure.

An operator vouches for accounts, an account for signing keys, one for each role, and a signing key for the
processes of its role. The server knows the operator and the accounts; a process shows its own JWT and proves
that it has the seed of the key in it. What it may do follows from its role and its name
(`permissions.template`), so a server needs not be told of a new process.
See https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/jwt.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from cloudmatch_bus.contract import permissions
from cloudmatch_bus.contract.unreadable import UNREADABLE

Claims = dict[str, object]
VERSION = 2  # of the claims
BUS = "CLOUDMATCH"  # the account of all processes
SYSTEM = "SYS"  # the account in which the servers speak of themselves
UNLIMITED = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
JETSTREAM = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
_HEADER = b'{"typ":"JWT","alg":"ed25519-nkey"}'
_CREDENTIALS = re.compile(
    r"-+BEGIN NATS USER JWT-+\s+(\S+\.\S+\.\S+)\s+-+END NATS USER JWT-+\s+"
    r"-+BEGIN USER NKEY SEED-+\s+(\S+)\s+-+END USER NKEY SEED-+"
)


class Credentials(NamedTuple):
    """Who a process is, and how it proves it."""

    name: str  # token of the process' name
    jwt: str
    seed: str


class _User(msgspec.Struct):
    name: str


def operator_claims(key: str, system: str) -> Claims:
    """Claims of the operator, which vouches for the accounts; `system` is the system account."""
    return _claims("operator", key, "cloudmatch", system_account=system)


def system_claims(key: str, signing_keys: list[str]) -> Claims:
    """Claims of the system account, whose users are made by these signing keys."""
    limits = {**UNLIMITED, "wildcards": True}
    return _claims("account", key, SYSTEM, limits=limits, signing_keys=signing_keys)


def account_claims(key: str, signing_keys: Mapping[str, list[str]], *, rolling: bool = False) -> Claims:
    """Claims of the account of the bus.

    Args:
        key: of the account.
        signing_keys: role → the keys by which its processes get their credentials.
        rolling: with the rights of the previous version's processes, too.
    """
    templates = {role: permissions.template(role, rolling=rolling) for role in signing_keys}
    scopes = [
        {"kind": "user_scope", "key": each, "role": role, "template": templates[role]}
        for role, keys in signing_keys.items()
        for each in keys
    ]
    limits = {**UNLIMITED, **JETSTREAM, "wildcards": True}
    return _claims("account", key, BUS, limits=limits, signing_keys=scopes)


def user_claims(key: str, name: str, account: str) -> Claims:
    """Claims of a process; `name` is a token."""
    return _claims("user", key, name, issuer_account=account)


def _claims(kind: str, key: str, name: str, **more: object) -> Claims:
    return {"sub": key, "name": name, "nats": {"type": kind, "version": VERSION, **more}}


def unsigned(claims: Claims, issuer: str, at: int = 0) -> str:
    """Return the part of a JWT that its issuer, a public key, signs; issued `at` (s since 1970)."""
    claims = {**claims, "iss": issuer, "iat": at}
    digest = hashlib.sha256(msgspec.json.encode(claims)).digest()
    body = msgspec.json.encode({"jti": base64.b32encode(digest).decode().rstrip("="), **claims})
    return f"{_encode(_HEADER)}.{_encode(body)}"


def signed(text: str, signature: bytes) -> str:
    """Complete the JWT whose `unsigned` part has this signature."""
    return f"{text}.{_encode(signature)}"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def server_configuration(operator: str, system: str, accounts: Mapping[str, str]) -> str:
    """Render what a server must know, from JWTs and public keys; it holds no secret.

    Args:
        operator: its JWT.
        system: key of the system account.
        accounts: key → JWT.
    """
    known = "\n".join(f'  {key}: "{jwt}"' for key, jwt in accounts.items())
    return f"""\
# Who may connect, and what they may do: made by cloudmatch-keys. It holds no secret.
operator: "{operator}"
system_account: {system}
resolver: MEMORY
resolver_preload: {{
{known}
}}
"""


def credentials_file(jwt: str, seed: str) -> str:
    """Render the file that a process shows to the server, and that all of NATS' tools read."""
    return f"""\
-----BEGIN NATS USER JWT-----
{jwt}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""


def parse_credentials(text: str) -> Credentials:
    """Parse such a file.

    Raises:
        ValueError: it is none.
    """
    found = _CREDENTIALS.search(text)
    if found is None:
        raise ValueError("no credentials of NATS")
    jwt, seed = found.groups()
    try:
        body = jwt.split(".")[1]
        user = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=_User)
    except (ValueError, *UNREADABLE):
        raise ValueError("credentials of NATS with an unreadable JWT") from None
    return Credentials(user.name, jwt, seed)
