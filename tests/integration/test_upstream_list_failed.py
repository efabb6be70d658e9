"""The reason of a mapped task names the upstream task that did not succeed."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from lightflow.engine.dag_builder import build_dag
from lightflow.parser.workflow_loader import load_workflow
from lightflow.plugins.registry import Registry
from liteflow import Dag, SkipTask


def skipped() -> list[int]:
    raise SkipTask("nothing today")


def failed() -> list[int]:
    raise ValueError("no")


@pytest.mark.parametrize(("make", "state"), [(skipped, "SKIPPED"), (failed, "FAILED")])
@pytest.mark.parametrize("rule", ["all_done", "none_failed"])
def test_in_python(db: str, make: object, state: str, rule: str) -> None:
    with Dag("none", db) as dag:
        numbers = dag.task(make, "numbers")  # type: ignore[arg-type]
        dag.partial(lambda x: x, "each", trigger_rule=rule).expand(x=numbers)
    run = dag.run(mode="inline")
    if run.statuses()["each"] == "FAILED":
        assert run.failures()["each"].endswith(f"task 'numbers' is {state}, so it has no list")
    else:
        assert (rule, state) == ("none_failed", "FAILED")


def test_in_a_workflow_file(db: str, tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text(
        textwrap.dedent("""\
        workflow_name: flow
        tasks:
          numbers: {run: exit 3, output: json}
          each: {foreach: "${{ tasks.numbers.result }}", trigger_rule: all_done, run: "true"}
          other: {foreach: "${{ tasks.numbers.result | default([]) }}", trigger_rule: all_done, run: "true"}
        """)
    )
    run = build_dag(load_workflow(str(path)), Registry(), db, {}, folder=str(tmp_path)).run(
        mode="thread", log_dir=str(tmp_path / "logs")
    )
    assert run.failures()["each"].endswith("task 'numbers' is FAILED, so it has no list")
    assert run.statuses()["other"] == "SKIPPED"
