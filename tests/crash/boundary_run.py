"""One small run that touches the disk in every way the engine does: what R2 kills at each of its writes.

The variant `child` adds a task with a child run, three levels in all. The variant `checkpoints` makes every commit a
synced one and folds the write-ahead log into the database after every few pages, which an ordinary run does only once a
second and after 4 MiB.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from crashkit import Acknowledge, TaskHooks, append, layered
from kill import Flow
from waiting import add_child, add_waits, with_child, with_waits

import liteflow.state.state_file
import liteflow.state.store
import liteflow.values.payload
from liteflow import Dag, Task
from liteflow.context import current_context

RUN = "r"
_BEFORE_WAITS = ("t0_2", "t0_1")
_LAYERS = layered(2, 3)
_BEFORE_CHILD = "t0_2"
GRAPH, AROUND = with_waits(
    _LAYERS, TaskHooks(hooks={"t0_0": ("on_success", "on_exit")}, failing={"t1_1": 1}, struck=True), _BEFORE_WAITS
)
#: what a retry runs again, with all that follows it
AGAIN = ("t0_2", "loop")
_LARGE = 3000  # made to be more than is kept in a row: it goes to a file of its own


def flow_of(variant: str) -> Flow:
    """Return what is run."""
    graph, around = with_child(GRAPH, AROUND, _BEFORE_CHILD) if variant == "child" else (GRAPH, AROUND)
    return Flow(graph, around, graph)


def _work(effects: str, task: str, above: Sequence[object]) -> object:
    attempt = current_context().attempt
    append(effects, f"{task} {attempt}")
    print(task)
    if attempt <= AROUND.failing.get(task, 0):
        raise ValueError("not this time")
    return "x" * _LARGE if task == "t0_1" else len(above)


def _note(effects: str, task: str) -> None:
    append(effects, f"{task} {current_context().attempt}")


def _hook(effects: str) -> None:
    context = current_context()
    append(effects, f"{context.task_id} {context.attempt}")


def execute(folder: str, what: str, mode: str, variant: str) -> str:
    """Run, resume, or retry a part, with commits that are all synced if the variant is `power`; returns its status.

    For a process of its own: it changes the engine's constants.
    """
    changes = [(liteflow.values.payload, "SPILL_BYTES", 1000)]
    if variant == "checkpoints":
        changes += [(liteflow.state.state_file, "_CHECKPOINT_BYTES", 16384), (liteflow.state.store, "_SYNC_EVERY_S", 0)]
    for module, name, value in changes:
        assert hasattr(module, name), f"{name} has gone: this tests nothing"
        setattr(module, name, value)
    dag = Dag("flow", f"{folder}/state.db")
    made: dict[str, Task] = {}
    for task, above in _LAYERS.items():
        work = partial(_work, f"{folder}/effects", task)
        hooks = dict.fromkeys(AROUND.hooks.get(task, ()), partial(_hook, f"{folder}/effects"))
        retries = AROUND.failing.get(task, 0)
        given = [made[name] for name in above]
        made[task] = dag.task(work, task, above=given, retries=retries, retry_delay=0.005, **hooks)
    note = partial(_note, f"{folder}/effects")
    add_waits(dag, made, note, _BEFORE_WAITS)
    if variant == "child":
        add_child(dag, made, note, f"{folder}/effects", _BEFORE_CHILD)
    handle = os.open(f"{folder}/acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    options: dict[str, Any] = {"max_workers": 1, "mode": mode, "log_dir": f"{folder}/logs"}
    options |= {"observers": [Acknowledge(handle)], "durability": "power" if variant == "power" else "process"}
    if what == "run":
        run = dag.run(run_id=RUN, **options)
    elif what == "resume":
        run = dag.resume(RUN, **options)
    else:
        run = dag.retry(RUN, AGAIN, **options)
    os.close(handle)
    return run.status
