"""Services that others can reach ask for keys, or are told not to."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cloudmatch.cli.rest import KEY, AnswerError, ask
from cloudmatch_bus.process.http_keys import Key, digest, line
from harness import NatsServer, Service
from harness.processes import BIN, Process

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("service", ["journal", "match-engine", "analytics"])
def test_beyond_loopback_a_service_ends_with_a_sentence_unless_it_is_told_who_may_ask(
    service: str, tmp_path: Path
) -> None:
    host = f"CLOUDMATCH_{service.upper().replace('-', '_')}_HOST"
    process = Process(service, [BIN / service], {host: "0.0.0.0"}, tmp_path)  # noqa: S104  # refused
    assert process.wait(10) == 2
    assert f"{host}=0.0.0.0 can be reached by others: set CLOUDMATCH_HTTP_AUTH=keys" in process.tail()


def test_a_running_service_opens_to_a_key_and_takes_new_ones_without_a_restart(
    nats_server: NatsServer, start: Callable[..., Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    file.write_text("")
    http = {"CLOUDMATCH_HTTP_AUTH": "keys", "CLOUDMATCH_HTTP_KEYS_FILE": str(file)}
    journal = start("journal", {"CLOUDMATCH_NATS_URL": nats_server.url, **http})
    assert journal.get("/events")[0] == 401
    assert journal.get("/events", key="my-key")[0] == 401
    file.write_text(line(Key("me", digest("my-key"), frozenset({"facts:read"}))))
    assert journal.get("/events", key="my-key")[0] == 200
    assert journal.get("/events")[0] == 401
    with pytest.raises(AnswerError, match=r"a key is needed.*CLOUDMATCH_HTTP_KEY"):
        ask(journal.url, "/events")
    monkeypatch.setenv(KEY, "my-key")
    assert ask(journal.url, "/events")["events"] == []
    assert "my-key" not in journal.logs()
