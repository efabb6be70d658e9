"""Triggers in workflow files and in Python: every spelling, the same records, the same mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lightflow.errors import WorkflowError
from lightflow.parser.workflow_loader import loads_workflow
from lightflow.service.workflows import outline_all
from liteflow import Dag, DefinitionError, FileTrigger, Schedule, WebhookTrigger, WorkflowTrigger
from liteflow.triggers import Trigger, counted_limit, declared_triggers, overlap_limit, trigger_from_spec

TASKS = "tasks: {a: {run: 'true'}}\n"


def triggers(text: str) -> tuple[Trigger, ...]:
    return loads_workflow(text + "\n" + TASKS).limits.triggers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('schedule: "30 2 * * *"', [Schedule(cron="30 2 * * *")]),
        ('schedule: ["30 2 * * *", "@daily"]', [Schedule(cron="30 2 * * *"), Schedule(cron="@daily")]),
        ("schedule: {every: 15m}", [Schedule(every=900)]),
        ("schedule: {every: 1.5}", [Schedule(every=1.5)]),
        ('on: {schedule: [{cron: "0 6 * * 1-5"}]}', [Schedule(cron="0 6 * * 1-5")]),
        (
            'schedule: {cron: "@daily", timezone: Europe/Berlin, catchup: latest, jitter: 2m, overlap: queue}',
            [Schedule(cron="@daily", timezone="Europe/Berlin", catchup="latest", jitter=120, overlap="queue")],
        ),
        ('schedule: {every: 60, catchup: "6h"}', [Schedule(every=60, catchup=21_600)]),
        ("schedule: {every: 60, catchup: true}", [Schedule(every=60, catchup=True)]),
        (
            "schedule: {every: 15m, start: 2026-12-01, end: 2027-03-01T00:00}",
            [Schedule(every=900, start="2026-12-01", end="2027-03-01T00:00")],
        ),
        (
            "params: {mode: fast}\nschedule: {every: 60, params: {mode: full}}",
            [Schedule(every=60, params={"mode": "full"})],
        ),
        ("on: {file: inbox/*.csv}", [FileTrigger(path="inbox/*.csv")]),
        (
            "params: {input: {type: path}}\non: {file: {path: a, settle: 1m, param: input, initial: true}}",
            [FileTrigger(path="a", settle=60, param="input", initial=True)],
        ),
        (
            "params: {inputs: {type: list}}\non: {file: {path: a, each: false, param: inputs}}",
            [FileTrigger(path="a", each=False, param="inputs")],
        ),
        ("secrets: [key]\non: {webhook: key}", [WebhookTrigger(secret="key")]),
        ("secrets: [key]\non: {webhook: {secret: key, scheme: token}}", [WebhookTrigger(secret="key", scheme="token")]),
        ("on: {workflow: fetch}", [WorkflowTrigger(name=("fetch",))]),
        (
            "on: {workflow: {name: [fetch, clean], status: [SUCCESS, FAILED], all: true}}",
            [WorkflowTrigger(name=("fetch", "clean"), status=("SUCCESS", "FAILED"), all=True)],
        ),
    ],
)  # fmt: skip
def test_spellings(text: str, expected: list[Trigger]) -> None:
    assert list(triggers(text)) == expected


def test_all_kinds_at_once_have_ids_by_their_order() -> None:
    found = triggers("on: {workflow: fetch, file: [a, b], schedule: ['@daily', {every: 60}]}")
    assert [declared.trigger_id for declared in declared_triggers("n", found)] == [
        "n:schedule", "n:schedule:2", "n:file", "n:file:2", "n:workflow",
    ]  # fmt: skip


def test_the_stored_form_gives_the_trigger_back() -> None:
    for trigger in triggers(
        "on: {workflow: [fetch], file: {path: a, each: true, settle: 0}, schedule: {every: 60, catchup: 6h}}"
    ):
        (declared,) = declared_triggers("n", [trigger])
        assert trigger_from_spec(declared.kind, json.loads(declared.spec)) == trigger


def test_a_digest_changes_with_the_declaration_alone() -> None:
    first, second, third = (
        declared_triggers("n", [trigger])[0].digest
        for trigger in (Schedule(cron="@daily"), Schedule(cron="@daily", jitter=0), Schedule(cron="@hourly"))
    )
    assert first == second != third


@pytest.mark.parametrize(("kind", "spec"), [("moon", {}), ("file", {"path": "a", "extra": 1})])
def test_an_altered_row_is_not_a_trigger(kind: str, spec: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=kind):
        trigger_from_spec(kind, spec)


# -- Python ----------------------------------------------------------------------------------------------------------


def test_python_takes_the_same() -> None:
    dag = Dag("n", schedule=["30 2 * * *", Schedule(every=900), WorkflowTrigger(name="fetch", status="FAILED")])  # type: ignore[arg-type]
    assert dag.limits.triggers == (
        Schedule(cron="30 2 * * *"), Schedule(every=900), WorkflowTrigger(name=("fetch",), status=("FAILED",)),
    )  # fmt: skip
    assert Dag("n", schedule="@daily").limits.triggers == (Schedule(cron="@daily"),)
    assert Dag("n").limits.triggers == ()


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (5, "must be a cron expression"),
        (Schedule(), 'needs "cron" or "every"'),
        (Schedule(cron="@daily", every=5), 'needs "cron" or "every"'),
        (Schedule(every=0.5), "at least 1 second"),
        (Schedule(every="15m"), "at least 1 second"),  # type: ignore[arg-type]
        (Schedule(every=60, overlap="wait"), "must be one of queue, skip"),
        (Schedule(every=60, catchup="all"), "must be true, false"),
        (Schedule(every=60, jitter=-1), "length of time"),
        (FileTrigger(path=""), "must be the path"),
        (FileTrigger(path="a", settle=-1), "length of time"),
        (WebhookTrigger(secret="s", scheme="x"), "must be one of github"),
        (WorkflowTrigger(name=()), "must name a workflow"),
        (WorkflowTrigger(name=("a",), status=("DONE",)), "must be one of SUCCESS"),
    ],
)
def test_mistakes_in_python(schedule: Any, words: str) -> None:
    with pytest.raises(DefinitionError, match=words):
        Dag("n", schedule=schedule)


def test_validate_reports_the_times_of_a_script(tmp_path: Path) -> None:
    path = tmp_path / "flow.py"
    path.write_text(
        "from liteflow import Dag, FileTrigger, Schedule\n"
        "with Dag('n', params={'a': 1}, \n"
        "         schedule=[Schedule(cron='0 0 30 2 *'), FileTrigger(path='x', param='b')]) as d:\n"
        "    d.task(print, task_id='t')\n"
    )
    with pytest.raises(WorkflowError) as caught:
        outline_all(str(path))
    messages = [problem.message for problem in caught.value.problems]
    assert any("never comes" in message for message in messages)
    assert any('no parameter "b"' in message for message in messages)


# -- overlap ---------------------------------------------------------------------------------------------------------


def test_a_schedule_does_not_overlap_by_default() -> None:
    limit = overlap_limit(None)
    assert limit is not None
    assert (limit.limit, limit.on_conflict) == (1, "skip")
    assert overlap_limit("allow") is None


def test_other_runs_of_such_a_workflow_are_counted() -> None:
    assert counted_limit([Schedule(every=60)]) is not None
    assert counted_limit([Schedule(every=60, overlap="allow"), FileTrigger(path="a")]) is None
