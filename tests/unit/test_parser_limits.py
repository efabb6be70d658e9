"""Limits in workflow files: every spelling, and every mistake with its place."""

from __future__ import annotations

import pytest

from lightflow.errors import WorkflowError
from lightflow.parser.workflow_loader import loads_workflow
from liteflow.limits import Concurrency, DagLimits, Pool, Retention
from liteflow.planning.ready_queue import DEFAULT_QUEUE, QueueOptions
from liteflow.planning.retry import RetryPolicy


@pytest.mark.parametrize(
    ("text", "retention"),
    [
        ("{days: 7}", Retention(days=7)),
        ("{runs: 500.0}", Retention(runs=500)),
        ("{days: 0.5, runs: 3, x-note: a}", Retention(days=0.5, runs=3)),
    ],
)
def test_retention(text: str, retention: Retention) -> None:
    spec = loads_workflow(f"settings: {{retention: {text}}}\ntasks: {{a: {{run: 'true'}}}}")
    assert spec.limits.retention == retention


def test_every_key() -> None:
    spec = loads_workflow(
        """
pools: {gpu: 1, db: {slots: 4, description: connections}, shared: {}, x-note: 5}
timeout: 1h30m
retry: {max: 2, delay: 10s, backoff: 2, max_delay: 1m, jitter: 0.1}
concurrency: {group: deploy, limit: 2, on_conflict: skip}
tasks:
  a: {run: "true", priority: 7, pool: gpu}
  b: {run: "true", pool: [db, shared], pool_slots: 2, max_parallel: 3}
  c: {run: "true", resources: {gpu: 1, db: 4}}
  d: {run: "true"}
"""
    )
    assert spec.limits == DagLimits(
        pools={"gpu": Pool(1), "db": Pool(4, "connections"), "shared": Pool()},
        timeout_s=5400.0,
        retry=RetryPolicy(2, 10.0, 2.0, 60.0, 0.1),
        concurrency=Concurrency("deploy", 2, "skip"),
    )
    assert [task.queue for task in spec.tasks.values()] == [
        QueueOptions(7, None, (("gpu", 1),)),
        QueueOptions(0, 3, (("db", 2), ("shared", 2))),
        QueueOptions(0, None, (("db", 4), ("gpu", 1))),
        DEFAULT_QUEUE,
    ]


def test_there_are_no_limits_by_default() -> None:
    assert loads_workflow("tasks: {a: {run: 'true'}}").limits == DagLimits()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("concurrency: 3", Concurrency(None, 3)),
        ("concurrency: deploy", Concurrency("deploy")),
        ("max_active_runs: 1", Concurrency(None, 1)),
        ("concurrency: {max_active_runs: 2, overlap_policy: cancel}", Concurrency(None, 2, "cancel")),
        ("concurrency: {}", Concurrency()),
    ],
)
def test_forms_of_concurrency(text: str, expected: Concurrency) -> None:
    assert loads_workflow(f"{text}\ntasks: {{a: {{run: 'true'}}}}").limits.concurrency == expected


def test_other_names() -> None:
    spec = loads_workflow(
        "timeout_seconds: 5\nretry_policy: {max: 1}\ntasks: {a: {run: 'true', priority_weight: 2, max_active: 4}}"
    )
    assert (spec.limits.timeout_s, spec.limits.retry.retries) == (5.0, 1)
    assert spec.tasks["a"].queue == QueueOptions(2, 4)


def test_limits_do_not_change_the_digest() -> None:
    plain = loads_workflow("pools: {p: 1}\ntasks: {a: {run: 'true'}}")
    bound = loads_workflow("pools: {p: 1}\ntimeout: 5\ntasks: {a: {run: 'true', pool: p, priority: 3}}")
    assert plain.tasks["a"].digest == bound.tasks["a"].digest


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("pools: {gpu: 0}", "1:14: pools.gpu: must be at least 1, not 0"),
        (
            "pools: {gpu: none}",
            "1:14: pools.gpu: must be a number of slots, or a mapping such as {slots: 4}",
        ),
        ("pools: {gpu: {slot: 1}}", '1:15: pools.gpu: unknown key "slot", did you mean "slots"?'),
        ("pools: {'a b': 1}", "cannot be"),
        ("timeout: 0", "1:10: timeout: must be more than 0, not 0"),
        ("timeout: 0s", '1:10: timeout: must be more than 0, not "0s"'),
        ("timeout: 20000d", '1:10: timeout: must be at most 10 years, not "20000d"'),
        ("retry: {max: 1, delay: 20000d}", "1:24: retry.delay: must be at most 10 years"),
        ("retry: 3", "1:8: retry: must be a mapping such as {max: 2, delay: 10m}"),
        ("retry: {on_exit_codes: [1]}", '1:9: retry: unknown key "on_exit_codes"'),
        ("concurrency: 0", "1:14: concurrency: must be at least 1, not 0"),
        ("concurrency: {on_conflict: quue}", '"quue" is not allowed, did you mean "queue"?'),
        ("concurrency: {limit: 1, max_active_runs: 2}", '"max_active_runs" and "limit" mean the same'),
    ],
)
def test_mistakes_at_the_top(text: str, problem: str) -> None:
    with pytest.raises(WorkflowError) as error:
        loads_workflow(f"{text}\ntasks: {{a: {{run: 'true'}}}}", "f.yaml")
    shown = str(error.value)
    assert problem in shown or (problem == "cannot be" and "is not allowed as a name here" in shown), shown


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ("pool: gpus", '3:26: tasks.a.pool: no pool "gpus", did you mean "gpu"?'),
        ("pool: [gpu, zz]", '3:32: tasks.a.pool: no pool "zz"; declare it: pools: {zz: 1}'),
        ("pool: [gpu, gpu]", '3:32: tasks.a.pool: pool "gpu" is named twice'),
        (
            "pool: gpu, pool_slots: 3",
            'tasks.a.pool_slots: 3 slots of pool "gpu", which has 2: the task could',
        ),
        ("pool_slots: 2", "is the number of slots of `pool`, and the task has no `pool`"),
        ("pool: 5", "tasks.a.pool: must be the name of a pool, or a list of names, not 5"),
        ("resources: {gpus: 1}", '3:32: tasks.a.resources: no pool "gpus", did you mean "gpu"?'),
        ("resources: {gpu: 5}", '3:37: tasks.a.resources.gpu: 5 slots of pool "gpu", which has 2'),
        ("resources: {gpu: 0}", "tasks.a.resources.gpu: must be at least 1, not 0"),
        ("resources: {gpu: 1}, pool: gpu", 'tasks.a.resources: pool "gpu" is named by `pool` too; keep one of them'),
        ("priority: high", 'tasks.a.priority: must be a whole number, not "high"'),
        ("priority: 1000001", "tasks.a.priority: must be at most 1,000,000, not 1000001"),
        ("priority: 1, priority_weight: 2", '"priority_weight" and "priority" mean the same'),
        ("max_parallel: 0", "tasks.a.max_parallel: must be at least 1, not 0"),
    ],
)
def test_mistakes_in_a_task(task: str, problem: str) -> None:
    with pytest.raises(WorkflowError) as error:
        loads_workflow(f"pools: {{gpu: 2, any: {{}}}}\ntasks:\n  a: {{run: 'true', {task}}}\n", "f.yaml")
    assert problem in str(error.value)


def test_a_pool_without_a_size_takes_any_need() -> None:
    spec = loads_workflow("pools: {any: {}}\ntasks: {a: {run: 'true', resources: {any: 9}}}")
    assert spec.tasks["a"].queue.needs == (("any", 9),)
