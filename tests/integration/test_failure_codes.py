"""Failures with codes: raised in any mode, stored, shown, and decisive for retries."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from lightflow.service.explanations import why
from lightflow.service.json_shapes import attempt_shape
from liteflow import Dag, DagRun, TaskFailed, current_context
from liteflow.api import History


def throttled() -> str:
    if current_context().attempt < 2:
        raise TaskFailed("GET /orders: 429 Too Many Requests", codes=("http:429",), retry_after_s=0.01)
    return "done"


def sent() -> None:
    raise TaskFailed("POST /orders: sent, and the answer is lost", codes=("http:closed",), final=True)


def attempts(run: DagRun, db: Path, task_id: str) -> list[tuple[str, tuple[str, ...]]]:
    with History(str(db)) as history:
        return [(each.status, each.codes) for each in history.attempts(run.run_id, task_id)]


@pytest.mark.parametrize("mode", ["thread", "process", "inline"])
def test_codes_decide_about_retries(tmp_path: Path, mode: str) -> None:
    db = tmp_path / "state.db"
    with Dag("codes", str(db)) as dag:
        dag.task(throttled, retries=3, retry_on_codes=["http:429"])
        dag.task(sent, retries=3)
        dag.task(sent, "named", retries=1, retry_on_codes=["http:*"])
    run = dag.run(mode=mode)
    assert run.statuses() == {"throttled": "SUCCESS", "sent": "FAILED", "named": "FAILED"}
    assert attempts(run, db, "throttled") == [("FAILED", ("http:429",)), ("SUCCESS", ())]
    assert attempts(run, db, "sent") == [("FAILED", ("http:closed",))]
    assert len(attempts(run, db, "named")) == 2
    assert run.failures()["sent"].endswith("; not tried again: the failure is final")


def test_why_and_json_show_the_codes(tmp_path: Path) -> None:
    db = tmp_path / "state.db"
    with Dag("codes", str(db)) as dag:
        dag.task(sent)
    run = dag.run(mode="thread")
    because = why(str(db), run.run_id, "sent").because[0]
    assert "ended as FAILED (http:closed): POST /orders: sent, and the answer is lost" in because
    with History(str(db)) as history:
        shape = attempt_shape(history.attempts(run.run_id, "sent")[0])
    assert shape["codes"] == ["http:closed"]
    assert shape["error"] == "POST /orders: sent, and the answer is lost"  # no traceback
    assert json.dumps(shape)


def test_an_error_with_codes_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(TaskFailed("full", codes=["q:full"], retry_after_s=2.0, final=True)))
    assert (str(error), error.codes, error.retry_after_s, error.final) == ("full", ("q:full",), 2.0, True)
