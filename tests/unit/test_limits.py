"""Limits as Python writes them: what is refused before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from liteflow import Concurrency, Dag, DefinitionError, Pool, RetryPolicy
from liteflow.limits import normalize_concurrency, normalize_pools


def nothing() -> None:
    pass


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"priority": 1.5}, "priority=1.5 must be a whole number"),
        ({"priority": 10**7}, "from -1,000,000 to 1,000,000"),
        ({"max_parallel": 0}, "max_parallel=0 must be a whole number, 1 or more"),
        ({"pool": 3}, "pool=3 must be the name of a pool"),
        ({"pool": "gpu", "pool_slots": 0}, "pool_slots=0 must be a whole number, 1 or more"),
        ({"resources": {"gpu": True}}, "must map names of pools to slots"),
        ({"resources": 7}, "must map names of pools to slots"),
        ({"pool": "gpu", "resources": {"gpu": 1}}, "is in `pool` and in `resources`"),
    ],
)
def test_options_that_make_no_sense_name_the_task(options: dict[str, Any], words: str) -> None:
    with pytest.raises(DefinitionError, match="task 't': ") as error:
        Dag("d", pools={"gpu": 1}).task(nothing, "t", **options)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("pools", "options", "words"),
    [
        ({"gpu": 1}, {"pool": "gpus"}, "there is no pool 'gpus'; did you mean 'gpu'?"),
        ({}, {"pool": "gpu"}, "there is no pool 'gpu'; declare it"),
        (
            {"gpu": 1},
            {"pool": "gpu", "pool_slots": 2},
            "needs 2 slots of pool 'gpu', which has 1: it could",
        ),
    ],
)
def test_a_pool_that_is_not_there_or_too_small_is_reported_before_anything_runs(
    db: str, pools: dict[str, int], options: dict[str, Any], words: str
) -> None:
    dag = Dag("d", db, pools=pools)
    dag.task(nothing, "t", **options)
    with pytest.raises(DefinitionError) as error:
        dag.run(mode="inline")
    assert words in str(error.value)
    assert dag.task(nothing, "other").task_id == "other"


@pytest.mark.parametrize("bad", [{"a b": 1}, {"gpu": 0}, {"gpu": "2"}, {"gpu": True}, {"run:x": 1}])
def test_pools_that_cannot_be(bad: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match="pool "):
        Dag("d", pools=bad)


def test_short_forms_and_long_ones() -> None:
    assert normalize_pools({"a": 2, "b": Pool(3, "words"), "c": Pool()}) == {
        "a": Pool(2),
        "b": Pool(3, "words"),
        "c": Pool(),
    }
    assert normalize_concurrency(None) is None
    assert normalize_concurrency(2) == Concurrency(None, 2, "queue")
    assert normalize_concurrency("deploy") == Concurrency("deploy")


@pytest.mark.parametrize("bad", [0, "a b", Concurrency(limit=0), Concurrency(on_conflict="wait")])  # type: ignore[arg-type]
def test_a_concurrency_that_cannot_be(bad: Any) -> None:
    with pytest.raises(DefinitionError, match="concurrency: "):
        Dag("d", concurrency=bad)


@pytest.mark.parametrize("bad", [0, -1, True, "5", float("nan"), float("inf")])
def test_a_timeout_that_cannot_be(bad: Any) -> None:
    with pytest.raises(DefinitionError, match="timeout="):
        Dag("d", timeout=bad)


@pytest.mark.parametrize("bad", [-1, True, "2", RetryPolicy(-1), RetryPolicy(1, on_exit_codes=(1,))])
def test_a_retry_of_the_run_that_cannot_be(bad: Any) -> None:
    with pytest.raises(DefinitionError, match="retry"):
        Dag("d", retry=bad)
    assert Dag("d", retry=2).limits.retry == RetryPolicy(2)


def test_the_options_of_a_task_can_be_compared_and_hashed() -> None:
    task = Dag("d").task(nothing, "t", resources={"b": 1, "a": 2}, pool=("c", "d"), pool_slots=3)
    assert hash(task.options)
    assert task.options.queue.needs == (("a", 2), ("b", 1), ("c", 3), ("d", 3))
