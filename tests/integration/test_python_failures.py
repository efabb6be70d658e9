"""The Python API describes a failure with the same line as the commands."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from liteflow import Dag, RunFailed


def group() -> None:
    raise ExceptionGroup("several things failed", [ValueError("a"), KeyError("b")])


def note() -> None:
    error = ValueError("bad row")
    error.add_note("in file orders.csv, line 12")
    raise error


def lines() -> None:
    raise ValueError("3 validation errors\nprice: no number\nmore: https://example.org/e/1")


def cause() -> None:
    try:
        note()
    except ValueError as error:
        raise RuntimeError("the import failed\n\n") from error


def nameless() -> None:
    raise LookupError


def syntax() -> None:
    compile("a = (", "<text>", "exec")


def item(x: int) -> None:
    if x:
        lines()


@pytest.mark.parametrize("mode", ["thread", "process", "async"])
def test_failures_are_the_lines_that_the_commands_show(db: str, mode: str) -> None:
    functions: list[Any] = [group, note, lines, cause, nameless, syntax]
    with Dag("reasons", db) as dag:
        for func in functions:
            dag.task(func)
        dag.partial(item).expand(x=[0, 1])
    run = dag.run(mode=mode)
    shown = json.loads(
        subprocess.run(
            [sys.executable, "-m", "lightflow", "status", run.run_id, "--json", "--db", db],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    reasons = {row["task"]: row["reason"] for row in shown["tasks"] if row["task"] != "item"}
    failures = run.failures()
    assert failures.pop("item[1]").startswith("ValueError: 3 validation errors")
    assert failures == reasons
    assert failures["group"] == "ExceptionGroup: several things failed (2 sub-exceptions)"
    assert failures["note"] == "ValueError: bad row"
    assert failures["lines"].startswith("ValueError: 3 validation errors")
    assert failures["cause"] == "RuntimeError: the import failed"
    assert failures["nameless"] == "LookupError"
    assert all("\n" not in entry for entry in failures.values())


def test_the_error_that_is_raised_names_the_first_tasks_with_the_same_lines(db: str) -> None:
    with Dag("raised", db) as dag:
        dag.task(group)
        dag.task(lines)
    with pytest.raises(RunFailed) as caught:
        dag.run(mode="thread").raise_for_failure()
    assert "group: ExceptionGroup: several things failed (2 sub-exceptions); lines: ValueError: 3" in str(caught.value)
    assert "\n" not in str(caught.value)
