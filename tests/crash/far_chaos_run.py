"""The workflow of R32, and the program that owns its runs.

    python tests/crash/far_chaos_run.py FOLDER '{"address": "tcp://…", "ssh": ["words", …], "slowness": 1}' SEED

Each attempt holds a lock of its task from its begin to its end, together with what it starts, so that two attempts that
overlap are seen by the kernel. It writes its begin and its end into the file `effects` of the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import sys
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from far_kit import ByValue  # noqa: E402

from liteflow import Command, Dag, Task  # noqa: E402
from liteflow.definition.options import make_options  # noqa: E402
from liteflow.errors import ResourceError  # noqa: E402
from liteflow.remote.cluster import Cluster  # noqa: E402

LAYERS, WIDTH = 4, 8
LEASE_S = 6.0
PLACES = ("dask", "ssh", "process")
#: The exit code of a run that was interrupted.
INTERRUPTED = 5
#: A killed worker is a failure of its task; everything else is a loss.
RETRIES = 1000


def work(folder: str, name: str, pause_s: float, first: int | None = None, second: int | None = None) -> int:
    """Be an attempt, and return one more than the larger number of those above."""
    import fcntl
    import os
    import subprocess
    import time

    from liteflow.context import current_context

    def say(what: str) -> None:
        handle = os.open(f"{folder}/effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(handle, f"{what} {name} {current_context().attempt}\n".encode())
        os.close(handle)

    lock = os.open(f"{folder}/locks/{name}", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("overlap")
    say("begin")
    child = subprocess.Popen(["sleep", str(pause_s)], pass_fds=[lock], cwd=folder)
    time.sleep(pause_s / 2)
    child.wait()
    say("end")
    os.close(lock)
    return 1 + max(first or 0, second or 0)


SCRIPT = """
say() {{ echo "$1 {name} $LIGHTFLOW_ATTEMPT" >> effects; }}
exec 9> locks/{name}
flock -n 9 || say overlap
say begin
sleep {pause}
say end
"""


def names() -> list[list[str]]:
    return [[f"t{layer}_{place}" for place in range(WIDTH)] for layer in range(LAYERS)]


def is_stored(db: str) -> bool:
    """Return whether the state file has the run: its owner may be killed before it has made it."""
    if not os.path.exists(db):
        return False
    with contextlib.closing(sqlite3.connect(db, timeout=10)) as connection, contextlib.suppress(sqlite3.Error):
        return bool(connection.execute("SELECT 1 FROM liteflow_dag_runs").fetchone())
    return False


def main(folder: str, clusters: str, seed: str) -> None:
    os.makedirs(f"{folder}/locks", exist_ok=True)
    os.chdir(folder)
    words = json.loads(clusters)
    dice = random.Random(int(seed))
    hosts = [{"name": name, "slots": 3, "argv": words["ssh"]} for name in ("h1", "h2")]
    placers = {
        "dask": (sys.executable, "-m", "lightflow.clusters.dask", words["address"]),
        "ssh": (sys.executable, "-m", "liteflow.remote.hosts", json.dumps(hosts)),
    }
    made = {name: Cluster(argv=argv, slots=6, lease_s=LEASE_S, shipping=ByValue()) for name, argv in placers.items()}
    dag = Dag("chaos", f"{folder}/state.db", clusters=made, max_lost=RETRIES)
    tasks: dict[str, Task] = {}
    for layer, row in enumerate(names()):
        for place, name in enumerate(row):
            pause_s = round(dice.choice((0.0, 0.05, 0.3, 0.8)) * dice.random() * words["slowness"], 3)
            options = {"retries": RETRIES, "retry_delay": 0, "mode": PLACES[(place + layer) % len(PLACES)]}
            above = [tasks[f"t{layer - 1}_{(place + step) % WIDTH}"] for step in (0, 1)] if layer else []
            if dice.random() < 0.4:
                script = SCRIPT.format(name=name, pause=pause_s)
                body, needs = Command(("/bin/sh", "-c", script)), [task.task_id for task in above]
                tasks[name] = Task(name, body=body, options=make_options(options, name), dependencies=needs)
                dag.add_task(tasks[name])
            else:
                values = dict(zip(("first", "second"), above, strict=False))
                tasks[name] = dag.task(partial(work, folder, name, pause_s), name, **values, **options)
    exists = is_stored(f"{folder}/state.db")
    try:
        run = dag.resume("r", raise_signals=False) if exists else dag.run(6, run_id="r", raise_signals=False)
    except ResourceError as error:  # a cluster has no machine now
        print(error, flush=True)
        sys.exit(INTERRUPTED)
    sys.exit(0 if run.status == "SUCCESS" else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
