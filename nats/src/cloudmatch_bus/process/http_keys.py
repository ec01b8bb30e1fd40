"""Keys of an HTTP API: who may ask for what, and about which app.

A file has a line for each key: its name, the SHA-256 of the key, its scopes and perhaps the one app that it
is for. The key itself is kept nowhere: `cloudmatch-http-keys` makes it, at random, so a quick hash suffices.
"""

import hashlib
import hmac
import logging
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler

from cloudmatch_bus.process.file_version import file_version
from cloudmatch_bus.process.listen import is_loopback
from cloudmatch_bus.process.settings import HttpSettings, SettingsError, error_text, variable

Scope = Literal[
    "facts:read",
    "facts:write",
    "windows:read",
    "explain:read",
    "devices:read",
    "devices:close",
    "devices:erase",
    "devices:send",
    "matches:write",
]
SCOPES: tuple[str, ...] = get_args(Scope)
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BEARER = re.compile(r"Bearer +([\x21-\x7e]{1,512}) *", re.IGNORECASE)
STATE = "keys"  # where an application keeps its `Keys`
FOUND = "key"  # where a request keeps its `Key`
NOBODY = "-"  # in place of a name in a line of the audit

log = logging.getLogger("http_keys")
_audit = logging.getLogger("audit")

Connection = ASGIConnection[Any, Any, Any, Any]


class Key(msgspec.Struct, frozen=True):
    """Who asks, and what they may."""

    name: str
    digest: bytes  # SHA-256 of the key
    scopes: frozenset[str]
    app: str | None = None  # None: every app


def digest(key: str) -> bytes:
    """Return what a file keeps of a key."""
    return hashlib.sha256(key.encode()).digest()


def line(key: Key) -> str:
    """Write the line of a key.

    Raises:
        ValueError: no line can have such a name, scope or app.
    """
    text = " ".join(
        (key.name, key.digest.hex(), ",".join(sorted(key.scopes)), *([key.app] if key.app else []))
    )
    if parse(text) != [key]:
        raise ValueError(f"the app {key.app!r} has spaces or line breaks that a line cannot keep")
    return text


def parse(text: str) -> list[Key]:
    """Parse a file of keys; empty lines and those that begin with `#` say nothing.

    Raises:
        ValueError: a line is none, or two have the same name.
    """
    keys: dict[str, Key] = {}
    for number, each in enumerate(text.split("\n"), 1):
        fields = each.split(maxsplit=3)
        if not fields or fields[0].startswith("#"):
            continue
        try:
            key = _key(fields, keys)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        keys[key.name] = key
    return list(keys.values())


def _key(fields: list[str], known: Collection[str]) -> Key:
    if len(fields) < 3:
        raise ValueError("expected `name sha256 scope,scope [app]`")
    name, sha256, listed = fields[:3]
    scopes = frozenset(listed.split(","))
    if not NAME.fullmatch(name):
        raise ValueError(f"the name {name!r} is not 1 to 64 of A-Z a-z 0-9 . _ -")
    if name in known:
        raise ValueError(f"{name} has a line already")
    if not _SHA256.fullmatch(sha256):
        raise ValueError("the second field is no SHA-256: 64 hexadecimal digits, in small letters")
    if unknown := sorted(scopes.difference(SCOPES)):
        raise ValueError(f"{unknown[0]!r} is no scope: {', '.join(SCOPES)}")
    return Key(name, bytes.fromhex(sha256), scopes, fields[3].rstrip() if len(fields) == 4 else None)


class Keys:
    """The keys of a file, read again whenever that has changed. What cannot be used changes nothing.

    Raises:
        OSError, ValueError: it cannot be used.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._version = file_version(file)
        self._keys = self._read()

    def _read(self) -> list[Key]:
        return parse(self._file.read_text(encoding="utf-8"))

    def find(self, key: str) -> Key | None:
        """Return who has a key; it takes as long whoever that is."""
        self._refresh()
        found, asked = None, digest(key)
        for each in self._keys:
            if hmac.compare_digest(each.digest, asked):
                found = each
        return found

    def _refresh(self) -> None:
        try:
            version = file_version(self._file)
            if version == self._version:
                return
            self._version = version
            self._keys = self._read()
        except (OSError, ValueError) as error:
            log.warning("keys not read again: %s: %s", self._file, error_text(error))
        else:
            log.info("keys read again: %d", len(self._keys))


def required(http: HttpSettings, host: str, host_setting: str) -> Keys | None:
    """Return the keys of an API that listens on `host`; None if it asks for none.

    Raises:
        SettingsError: nobody has said that it may be open, or the keys cannot be used.
    """
    auth, file = variable(HttpSettings, "auth"), variable(HttpSettings, "keys_file")
    if http.auth == "keys":
        if not http.keys_file:
            raise SettingsError(f"{auth}=keys: set {file}; cloudmatch-http-keys makes its lines")
        try:
            return Keys(Path(http.keys_file))
        except (OSError, ValueError) as error:
            raise SettingsError(f"{file}={http.keys_file!r} cannot be used: {error_text(error)}") from None
    if not http.auth and not is_loopback(host):
        raise SettingsError(
            f"{host_setting}={host} can be reached by others: set {auth}=keys, with {file}, "
            f"or {auth}=none if all of them may read and write everything"
        )
    return None


class Guard:
    """A guard of handlers: whoever asks has this scope."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def __call__(self, connection: Connection, _: BaseRouteHandler) -> None:
        """Let pass who has the scope, and everybody where no keys are asked for.

        Raises:
            NotAuthorizedException, PermissionDeniedException: others.
        """
        keys: Keys | None = connection.app.state.get(STATE)
        if keys is None:
            return
        found = _BEARER.fullmatch(", ".join(connection.headers.getall("authorization", [])))
        key = keys.find(found[1]) if found else None
        if key is None:
            detail = "this key is unknown" if found else "a key is needed: `Authorization: Bearer <key>`"
            audit(connection, self.scope, NOBODY, NOBODY, "unauthorized")
            raise NotAuthorizedException(detail, headers={"WWW-Authenticate": "Bearer"})
        connection.state[FOUND] = key
        if self.scope not in key.scopes:
            audit(connection, self.scope, key.app or NOBODY, NOBODY, "forbidden")
            raise PermissionDeniedException(f"the key {key.name} has no scope {self.scope}")


def guard(scope: Scope) -> Guard:
    """Make the guard of a handler, for `guards=[…]`."""
    return Guard(scope)


def only_app(connection: Connection) -> str | None:
    """Return the one app about which a request may ask; None: about all."""
    key: Key | None = connection.state.get(FOUND)
    return key.app if key else None


def require_app(connection: Connection, app: str) -> None:
    """Let pass who may ask about an app.

    Raises:
        PermissionDeniedException: the key is for another one.
    """
    key: Key | None = connection.state.get(FOUND)
    if key and key.app not in (None, app):
        audit(connection, "app", app, NOBODY, "forbidden")
        raise PermissionDeniedException(f"the key {key.name} is not for app {app}")


def audit(connection: Connection, what: str, app: str, device: str, result: str) -> None:
    """Log who did what to whom, or tried to: a line ``audit: who what app device result``.

    Args:
        what: one of a few words; the log is bounded for each.
    """
    key: Key | None = connection.state.get(FOUND)
    who = key.name if key else connection.client.host if connection.client else NOBODY
    _audit.info(f"%s {what} %s %s %s", who, app, device, result)


def scopes(guards: Collection[object]) -> list[Scope]:
    """Return the scopes that these guards of a handler ask for."""
    return [each.scope for each in guards if isinstance(each, Guard)]
