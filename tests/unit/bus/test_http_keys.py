"""Keys of HTTP APIs: what a file says, who is let in, which app a key is for, and what the audit keeps."""

import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar import Request, get
from litestar.params import FromQuery
from litestar.testing import TestClient

from cloudmatch_bus.process import http_keys
from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.http import application
from cloudmatch_bus.process.http_keys import Key, Keys, guard, line, only_app, parse, require_app
from cloudmatch_bus.process.settings import HttpSettings, SettingsError, read

SECRETS = {"reader": "cm_reader", "writer": "cm_writer", "demo": "cm_demo"}


def written(name: str, scopes: str, app: str | None = None) -> str:
    return line(Key(name, http_keys.digest(SECRETS[name]), frozenset(scopes.split(",")), app))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    lines = ["# who may what", "", written("reader", "facts:read"), written("writer", "facts:write")]
    (tmp_path / "keys").write_text("\n".join([*lines, written("demo", "facts:read", "demo")]) + "\n")
    return tmp_path / "keys"


@get("/facts", guards=[guard("facts:read")], sync_to_thread=False)
def facts(request: Request[Any, Any, Any], app: FromQuery[str] = "default") -> str | None:
    """Return the one app of whoever asks."""
    require_app(request, app)
    return only_app(request) or "all"


@pytest.fixture
def client(file: Path) -> Iterator[TestClient]:
    with TestClient(application("test", Health(), [facts], keys=Keys(file))) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("cm_nobody"),
        bearer(""),
        bearer("cm_reader, Bearer cm_reader"),
        {"Authorization": "Basic cm_reader"},
        bearer(hashlib.sha256(b"cm_reader").hexdigest()),
        bearer("x" * 600),
    ],
)
def test_without_a_known_key_nobody_is_let_in(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.get("/facts", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_two_headers_are_no_key(client: TestClient) -> None:
    twice = [("Authorization", "Bearer cm_reader"), ("Authorization", "Bearer cm_reader")]
    assert client.get("/facts", headers=twice).status_code == 401  # type: ignore[arg-type]  # as httpx takes them


def test_a_key_without_the_scope_or_for_another_app_is_refused(client: TestClient) -> None:
    answer = client.get("/facts", headers=bearer("cm_writer"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    answer = client.get("/facts?app=other", headers=bearer("cm_demo"))
    assert (answer.status_code, answer.json()["error"]) == (
        403,
        {"code": "forbidden", "detail": "the key demo is not for app other"},
    )


def test_a_key_with_the_scope_is_let_in_about_its_app_only_or_about_all(client: TestClient) -> None:
    assert client.get("/facts?app=other", headers=bearer("cm_reader")).text == "all"
    assert client.get("/facts?app=demo", headers={"Authorization": "bearer  cm_demo"}).text == "demo"


def test_where_no_keys_are_asked_for_everybody_is_let_in() -> None:
    with TestClient(application("test", Health(), [facts])) as client:
        assert client.get("/facts?app=x").text == "all"
        assert client.get("/facts", headers=bearer("cm_nobody")).status_code == 200


def test_the_audit_says_who_was_refused_and_never_the_key(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client.get("/facts", headers=bearer("cm_nobody"))
    client.get("/facts", headers=bearer("cm_writer"))
    client.get("/facts?app=other", headers=bearer("cm_demo"))
    assert [each.getMessage() for each in caplog.records if each.name == "audit"] == [
        "testclient facts:read - - unauthorized",
        "writer facts:read - - forbidden",
        "demo app other - forbidden",
    ]
    assert "cm_" not in caplog.text


def replace(file: Path, text: str) -> None:
    file.with_name("new").write_text(text)
    file.with_name("new").replace(file)


def test_a_file_that_changes_is_read_again_and_a_wrong_one_changes_nothing(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    keys = Keys(file)
    replace(file, written("writer", "facts:write"))
    assert keys.find("cm_reader") is None
    found = keys.find("cm_writer")
    assert found
    assert found.name == "writer"
    replace(file, "nonsense")
    file.chmod(0o600)
    assert keys.find("cm_writer") == found
    file.unlink()
    assert keys.find("cm_writer") == found
    assert [each.getMessage().partition(":")[0] for each in caplog.records] == [
        "keys read again",
        "keys not read again",
        "keys not read again",
    ]


def test_a_file_of_bytes_that_are_no_text_changes_nothing(file: Path) -> None:
    keys = Keys(file)
    file.write_bytes(b"\xff\xfe")
    assert keys.find("cm_reader")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name", "line 1: expected `name sha256 scope,scope [app]`"),
        (f"na:me {'0' * 64} facts:read", "line 1: the name 'na:me' is not"),
        (f"name {'G' * 64} facts:read", "line 1: the second field is no SHA-256"),
        (f"\nname {'0' * 64} facts:read,facts:eat", "line 2: 'facts:eat' is no scope"),
        (f"a {'0' * 64} facts:read\na {'1' * 64} facts:read", "line 2: a has a line already"),
    ],
)
def test_a_line_that_is_none_is_refused_by_its_number(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("[", r"\[")):
        parse(text)


def test_an_app_may_have_spaces_but_none_that_a_line_cannot_keep() -> None:
    assert parse(written("demo", "facts:read", "my app"))[0].app == "my app"
    for app in ("x\ny", "x ", " x"):
        with pytest.raises(ValueError, match=r"cannot keep|line 2"):
            written("demo", "facts:read", app)


def settings(**values: str) -> HttpSettings:
    return read(HttpSettings, {f"CLOUDMATCH_HTTP_{name.upper()}": value for name, value in values.items()})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_on_loopback_no_keys_are_asked_for_by_default(host: str) -> None:
    assert http_keys.required(settings(), host, "CLOUDMATCH_X_HOST") is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com"])  # noqa: S104 # not listened on
def test_elsewhere_a_service_does_not_start_until_it_is_told(host: str, file: Path) -> None:
    with pytest.raises(SettingsError, match=rf"CLOUDMATCH_X_HOST={host} .* CLOUDMATCH_HTTP_AUTH=none if"):
        http_keys.required(settings(), host, "CLOUDMATCH_X_HOST")
    assert http_keys.required(settings(auth="none"), host, "") is None
    assert http_keys.required(settings(auth="keys", keys_file=str(file)), host, "") is not None


def test_keys_that_cannot_be_used_are_refused_by_the_name_of_the_variable(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="CLOUDMATCH_HTTP_AUTH=keys: set CLOUDMATCH_HTTP_KEYS_FILE"):
        http_keys.required(settings(auth="keys"), "127.0.0.1", "")
    with pytest.raises(SettingsError, match=r"CLOUDMATCH_HTTP_KEYS_FILE=.*No such file"):
        http_keys.required(settings(auth="keys", keys_file=str(tmp_path / "none")), "127.0.0.1", "")
    (tmp_path / "wrong").write_text("wrong")
    with pytest.raises(SettingsError, match=r"CLOUDMATCH_HTTP_KEYS_FILE=.*line 1"):
        http_keys.required(settings(auth="keys", keys_file=str(tmp_path / "wrong")), "127.0.0.1", "")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cloudmatch_bus.tools.http_keys_cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "99"}
    )


def test_the_tool_prints_a_line_and_beside_it_the_key_that_it_is_for(tmp_path: Path) -> None:
    made = make("backend", "facts:read,devices:close", "demo")
    (tmp_path / "keys").write_text(made.stdout)
    key = made.stderr.split()[-1]
    assert key not in made.stdout
    found = Keys(tmp_path / "keys").find(key)
    assert found == Key("backend", http_keys.digest(key), frozenset({"facts:read", "devices:close"}), "demo")
    assert make("backend", "facts:read").stderr.split()[-1] != key
    refused = make("backend", "facts:eat")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "'facts:eat' is no scope" in refused.stderr
