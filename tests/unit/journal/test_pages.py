"""Searches: what bounds them, and what becomes of them while the journal goes on."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cloudmatch_journal.pages import MAX_SCANNED
from cloudmatch_journal.store import Store
from unit.journal.reopened import SIZE, entries, fill


def test_a_search_without_results_stops_early_and_continues_at_next(store: Store) -> None:
    fill(store, SIZE * (MAX_SCANNED + 3))
    page = store.read(0, 10, kind="left")
    assert page == ([], SIZE * MAX_SCANNED, True)
    assert store.read(page.next, 10, kind="left") == ([], SIZE * (MAX_SCANNED + 3), False)


@pytest.mark.parametrize(("bound", "value"), [("MAX_TIME", -1.0), ("MAX_BYTES", 1)])
def test_a_search_that_costs_too_much_ends_after_a_segment_and_continues_at_next(
    store: Store, monkeypatch: pytest.MonkeyPatch, bound: str, value: float
) -> None:
    fill(store, 3 * SIZE + 1)
    assert store.read(0, 100) == (entries(*range(1, 3 * SIZE + 2)), 3 * SIZE + 1, False)
    monkeypatch.setattr(f"cloudmatch_journal.pages.{bound}", value)
    read, page = [], store.read(0, 100)
    while page.more:
        read.append([position for position, _ in page.entries])
        page = store.read(page.next, 100)
    assert read == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]
    assert page == (entries(13), 13, False)


def test_a_search_shows_no_event_twice_that_came_after_it_was_asked_for(store: Store) -> None:
    fill(store, 2)
    search = store.find(0)
    store.append(entries(3))
    page = search.page(10)
    assert page == (entries(1, 2, 3), 3, False)
    assert store.read(page.next, 10).entries == []


def test_a_search_is_answered_after_its_segments_were_sealed_and_dropped(store: Store) -> None:
    fill(store, 2 * SIZE + 2)
    search = store.find(0)
    store.append(entries(*range(2 * SIZE + 3, 3 * SIZE + 2)))
    store.save(b"")
    store.drop_segments(1)
    positions = [position for position, _ in search.page(100).entries]
    assert positions == [*range(SIZE + 1, 3 * SIZE + 2)]


@pytest.mark.usefixtures("switching")
def test_searches_in_threads_find_everything_while_the_journal_grows(store: Store) -> None:
    with ThreadPoolExecutor(2) as threads:
        found = []
        for position in range(1, 200):
            store.append(entries(position))
            after = max(0, position - 3 * SIZE)
            found.append((after, position, threads.submit(store.find(after).page, 100)))
    for after, position, result in found:
        page = result.result()
        assert [each for each, _ in page.entries] == [*range(after + 1, page.next + 1)]
        assert page.next >= position


@pytest.fixture
def switching(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let threads take turns as often as possible, which may cost a search more time than it has."""
    monkeypatch.setattr("cloudmatch_journal.pages.MAX_TIME", 60.0)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)
