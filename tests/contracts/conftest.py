"""Stores for the contracts of the state file, and the quick form of the contract of executors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from liteflow.state.locks import LockFile
from liteflow.state.store import Store


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out all cases of a test on another machine but the first: each starts two programs.

    The long form (`--crash-scale 2`) has them all.
    """
    if config.getoption("--crash-scale") > 1:
        return
    seen: set[str] = set()
    left_out: list[pytest.Item] = []
    for item in items:
        callspec = getattr(item, "callspec", None)
        if item.path.parent.name != "contracts" or callspec is None or callspec.params.get("mode") != "far":
            continue
        name = getattr(item, "originalname", item.name)
        if name in seen:
            left_out.append(item)
        seen.add(name)
    for item in left_out:
        items.remove(item)
    config.hook.pytest_deselected(items=left_out)


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
