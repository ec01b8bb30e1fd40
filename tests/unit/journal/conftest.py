"""A journal in a temporary folder, without a bus."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudmatch_journal.journal import Journal
from cloudmatch_journal.store import Store
from unit.journal.samples import SIZE


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with small segments."""
    store = Store(tmp_path, SIZE)
    yield store
    store.close()


@pytest.fixture
def journal(store: Store) -> Journal:
    """A journal over the store."""
    return Journal(store, SIZE)
