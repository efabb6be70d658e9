"""The outputs of a run of a workflow file, computed from its stored values."""

from __future__ import annotations

import os
from typing import Any

from lightflow.spec.model import WorkflowSpec
from liteflow import Call, DagRun
from liteflow.api import History, Payload, RunInfo, Work, input_name
from liteflow.values.params import restored

_NULL = Payload("json", "null", 4)  # of a task that did not run


def run_outputs(spec: WorkflowSpec, run: DagRun) -> dict[str, Any]:
    """Return the outputs of a run by name.

    Raises:
        InputError: an expression cannot be evaluated.
    """
    expressions = spec.output_expressions
    if expressions is None:
        return dict(spec.outputs)
    from lightflow.expressions.evaluate import DeferredTaskBody, with_templates

    with History(run.db_path) as history:
        record = history.run(run.run_id)
        stored = {ref: history.value(run.run_id, ref.task_id, ref.key) for ref in expressions.reads}
    info = RunInfo(
        run_id=run.run_id,
        dag_id=run.dag_id,
        db_path=run.db_path,
        params=restored(spec.params, record.params, record.logical_date),
        logical_date=record.logical_date,
    )
    inputs = {input_name(ref): _NULL if payload is None else payload for ref, payload in stored.items()}
    values = with_templates({"outputs": spec.outputs}, expressions.config)
    call = Call(dict, values, late=DeferredTaskBody(expressions, os.getcwd()))
    work = Work(node=0, task_id="outputs", attempt=1, inputs=inputs)
    outputs: dict[str, Any] = DeferredTaskBody(expressions, os.getcwd()).complete(call, info, work).kwargs["outputs"]
    return outputs
