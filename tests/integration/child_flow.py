"""Dags whose tasks execute child runs, three levels deep, for tests that kill their processes.

    python child_flow.py run|resume [RUN]

Each task appends its name to the file `ran`; a task waits while there is a file with its name and `.hold`.
"""

from __future__ import annotations

import os
import sys
import time

from liteflow import Dag, DagRun, Param, TaskFailed

LIMIT_S = 60.0


def step(name: str) -> str:
    """Note that a task has started, wait while it is held, and fail once if it is to fail."""
    with open("ran", "a", encoding="utf-8") as file:
        file.write(f"{name}\n")
    give_up = time.monotonic() + LIMIT_S
    while os.path.exists(f"{name}.hold") and time.monotonic() < give_up:
        time.sleep(0.005)
    if os.path.exists(f"{name}.fail"):
        os.unlink(f"{name}.fail")
        raise TaskFailed(f"{name} was to fail")
    return name


def leaf() -> Dag:
    dag = Dag("leaf", params={"part": Param("string")})
    first = dag.task(step, "leaf_first", name="leaf_first", setup=True)
    second = dag.task(step, "leaf_second", name="leaf_second")
    last = dag.task(step, "leaf_teardown", name="leaf_teardown", teardown=True)
    first >> second >> last
    first >> last
    dag.outputs["second"] = second
    return dag


def middle() -> Dag:
    dag = Dag("middle")
    first = dag.task(step, "middle_first", name="middle_first")
    part = dag.workflow("part", leaf(), params={"part": first})
    dag.task(step, "middle_last", name="middle_last") << part
    dag.outputs["second"] = part.output("second")
    return dag


def top() -> Dag:
    dag = Dag("top", "state.db")
    first = dag.task(step, "top_first", name="top_first")
    whole = dag.workflow("whole", middle(), depends_on=first)
    dag.task(step, "top_last", name="top_last") << whole
    return dag


def main() -> None:
    action, *run_id = sys.argv[1:]
    dag = top()
    run: DagRun = dag.run(run_id="r", log_dir="logs") if action == "run" else dag.resume(*run_id)
    print(run.status, run.failures())


if __name__ == "__main__":
    main()
