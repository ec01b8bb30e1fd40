"""Queries that wait for their turn, while everything else goes on."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
from httpx import ASGITransport, AsyncClient

from cloudmatch_bus.process.health import Health
from cloudmatch_bus.process.http import application
from cloudmatch_bus.process.searches import AT_ONCE, WAITING
from cloudmatch_journal.http_api import handlers
from cloudmatch_journal.journal import Journal
from cloudmatch_journal.pages import Page, Search
from harness import eventually
from unit.journal.samples import payload


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let no search end before this is set."""
    opened, page = threading.Event(), Search.page

    def wait(search: Search, limit: int) -> Page:
        assert opened.wait(20)
        return page(search, limit)

    monkeypatch.setattr(Search, "page", wait)
    yield opened
    opened.set()


async def test_while_queries_are_searched_probes_are_answered_and_facts_are_stored(
    journal: Journal, gate: threading.Event
) -> None:
    app = application("journal", Health(), handlers(journal.store, journal.ledger, journal.publish))
    async with AsyncClient(transport=ASGITransport(app), base_url="http://journal") as client:  # type: ignore[arg-type]  # it is one
        paths = ("/events", "/events?type=delivered", "/device/events/a")
        asked = [asyncio.create_task(client.get(path)) for path in paths * 4]
        assert (await client.get("/system/liveness")).status_code == 200
        await journal.append([payload(1)])
        assert (await client.get("/device/state/a")).json()["bytesSent"] == 4
        assert not any(each.done() for each in asked)
        gate.set()
        assert [each.status_code for each in await asyncio.gather(*asked)] == [200] * 12


async def test_a_query_that_would_wait_too_long_is_refused_and_says_when_to_ask_again(
    journal: Journal, gate: threading.Event
) -> None:
    app = application("journal", Health(), handlers(journal.store, journal.ledger, journal.publish))
    async with AsyncClient(transport=ASGITransport(app), base_url="http://journal") as client:  # type: ignore[arg-type]  # it is one
        asked = [asyncio.create_task(client.get("/events")) for _ in range(AT_ONCE + WAITING + 1)]
        await eventually(lambda: any(each.done() for each in asked))
        (refused,) = [each.result() for each in asked if each.done()]
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        assert refused.headers["retry-after"] == "1"
        gate.set()
        answers = await asyncio.gather(*asked)
        assert sorted(each.status_code for each in answers) == [200] * (AT_ONCE + WAITING) + [503]
        assert (await client.get("/events")).status_code == 200
