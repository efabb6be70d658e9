"""Pages of the long lists of a run: complete, in order, without repetition, also while the run goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lightflow.service import pages
from liteflow import Dag, RunNotFound
from liteflow.api import History

ITEMS = 23


def fail_some(item: int) -> int:
    if item % 5 == 0:
        raise ValueError(item)
    return item


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("pages") / "state.db")
    with Dag("flow", path) as dag:
        dag.partial(fail_some, "mapped", retries=1).expand(item=list(range(ITEMS)))
        dag.task(print, "last", trigger_rule="all_done")
        dag.task(print, "a.first")
    dag.run(mode="inline", run_id="run-1")
    return path


def everything(read: Callable[[str | None], pages.Slice[Any]]) -> list[Any]:
    items, after, calls = [], None, 0
    while True:
        page = read(after)
        items += page.items
        after, calls = page.after, calls + 1
        if after is None:
            assert calls > 1
            return items


@pytest.mark.parametrize("limit", [1, 7, 13])
def test_the_pages_of_instances_are_the_instances(db: str, limit: int) -> None:
    with History(db) as history:
        expected = history.instances("run-1")
    assert len(expected) == ITEMS + 3
    assert everything(lambda after: pages.run_instances(db, "run-1", after=after, limit=limit)) == expected


@pytest.mark.parametrize(
    ("name", "count", "limit"),
    [(None, ITEMS + 7, 1), (None, ITEMS + 7, 16), ("mapped", ITEMS + 5, 7), ("mapped[5]", 2, 1)],
)
def test_the_pages_of_attempts_are_the_attempts(db: str, name: str | None, count: int, limit: int) -> None:
    with History(db) as history:
        task_id, index = (None, None) if name is None else ("mapped", 5 if name == "mapped[5]" else None)
        expected = history.attempts("run-1", task_id, index)
    assert len(expected) == count
    assert everything(lambda after: pages.run_attempts(db, "run-1", name, after=after, limit=limit)) == expected


def test_a_list_that_fits_on_a_page_has_no_next_page(db: str) -> None:
    assert pages.run_instances(db, "run-1", limit=ITEMS + 4).after is None
    assert pages.run_attempts(db, "run-1", "mapped[5]").after is None


def test_the_cursor_of_events_stays_valid_at_the_end(db: str) -> None:
    first = pages.run_events(db, "run-1", limit=10)
    second = pages.run_events(db, "run-1", after=first.after, limit=10_000)
    with History(db) as history:
        assert [*first.items, *second.items] == history.events("run-1", limit=10_000)
    assert pages.run_events(db, "run-1", after=second.after) == ([], second.after)
    assert pages.run_events(db, after="nonsense", limit=1).items[0].seq == 1


def test_a_summary_has_the_numbers_of_a_run_without_its_lists(db: str) -> None:
    summary = pages.run_summary(db)
    assert summary.run.run_id == "run-1"
    assert summary.counts == {"FAILED": 1, "SUCCESS": 2}
    assert summary.instances == {"FAILED": 5, "SUCCESS": ITEMS - 5}


def test_an_unknown_run_is_reported(db: str) -> None:
    with pytest.raises(RunNotFound, match="there is no run 'nosuch'"):
        pages.run_instances(db, "nosuch")
