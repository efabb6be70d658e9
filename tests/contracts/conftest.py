"""Stores for the contracts of the state file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from liteflow.state.locks import LockFile
from liteflow.state.store import Store


@pytest.fixture
def opened(db: str) -> Iterator[Callable[..., Store]]:
    """Stores, each with a lock file of its own, as separate processes have."""
    made: list[tuple[Store, LockFile]] = []

    def open_store(**options: Any) -> Store:
        locks = LockFile(db)
        store = Store(db, locks, **options)
        made.append((store, locks))
        return store

    yield open_store
    for store, locks in made:
        store.close()
        locks.close()
