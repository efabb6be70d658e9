"""The runs of R34: many empty tasks on workers of Dask, and tasks that wait for a file.

python tests/crash/slots_run.py FOLDER ADDRESS many COUNT       then it is idle, until the file `go` is there
python tests/crash/slots_run.py FOLDER ADDRESS gate PATIENCE    resumes a run that was interrupted
python tests/crash/slots_run.py FOLDER ADDRESS kinds COUNT      tasks with three kinds of resources
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from lightflow.clusters import dask  # noqa: E402
from liteflow import Dag, Pool  # noqa: E402
from liteflow.record import replace  # noqa: E402

SLOTS = 4


def nothing() -> None:
    return None


def gate(folder: str) -> None:
    import os

    with open(f"{folder}/starts", "a") as file:
        file.write("x\n")
    while not os.path.exists(f"{folder}/gate"):
        time.sleep(0.02)


def many(folder: str, address: str, count: int) -> None:
    """Run empty tasks, and stay idle afterwards: a task of this machine waits for the file."""
    dag = Dag("many", f"{folder}/many.db", clusters={"far": dask(address, slots=SLOTS)})
    with dag:
        tasks = [dag.task(nothing, f"t{number}", mode="far") for number in range(count)]
        dag.shell("while [ ! -e go ]; do sleep 0.05; done", "idle", mode="thread", depends_on=tasks)
    sys.exit(0 if dag.run(SLOTS, run_id="r").status == "SUCCESS" else 1)


def gated(folder: str, address: str, patience_s: float) -> None:
    """Run or resume more tasks than there are slots, which wait for the file `gate`."""
    cluster = replace(dask(address, slots=SLOTS), patience_s=patience_s)
    dag = Dag("gated", f"{folder}/gated.db", clusters={"far": cluster}, max_lost=100)
    for number in range(SLOTS + 2):
        dag.task(partial(gate, folder), f"t{number}", mode="far")
    resumes = os.path.exists(f"{folder}/gated.db")
    run = dag.resume("r") if resumes else dag.run(SLOTS, run_id="r")
    sys.exit(0 if run.status == "SUCCESS" else 1)


def kinds(folder: str, address: str, count: int) -> None:
    """Run as many tasks of three kinds, which take no resource, the resource GPU, and two of them."""
    pools = {"gpu": Pool(100, resource="GPU")}
    dag = Dag("kinds", f"{folder}/kinds.db", clusters={"far": dask(address, slots=SLOTS)}, pools=pools)
    for number in range(count):
        for kind in range(3):
            needs = {"gpu": kind} if kind else {}
            dag.shell(f"echo {kind} >>kinds; sleep 0.02", f"t{kind}_{number}", mode="far", resources=needs)
    sys.exit(0 if dag.run(run_id="r").status == "SUCCESS" else 1)


if __name__ == "__main__":
    folder, address, kind, number = sys.argv[1:]
    if kind == "many":
        many(folder, address, int(number))
    elif kind == "kinds":
        kinds(folder, address, int(number))
    else:
        gated(folder, address, float(number))
