"""The run of R33: a command with a secret on a machine of a cluster, and then one without.

R33_SECRET=… python tests/crash/secret_run.py FOLDER KIND MACHINES    KIND is dask or ssh

The files `first` and `second` are there when a command runs; it ends when `end-first` or `end-second` is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from lightflow.clusters import dask, ssh  # noqa: E402
from liteflow import Command, Dag, Task  # noqa: E402

SCRIPT = "touch {name}; while [ ! -e end-{name} ]; do sleep 0.02; done"


def main(folder: str, kind: str, machines: str) -> None:
    token = os.environ.pop("R33_SECRET")
    cluster = dask(machines, slots=4) if kind == "dask" else ssh(machines, python=sys.executable)
    dag = Dag("secret", f"{folder}/state.db", clusters={"far": cluster}, secrets=["TOKEN"])
    script = f'[ -n "$TOKEN" ] || exit 1; {SCRIPT.format(name="first")}'
    first = dag.add_task(Task("first", body=Command(("/bin/sh", "-c", script), secrets=("TOKEN",))))
    dag.shell(f'[ -z "$TOKEN" ] || exit 1; {SCRIPT.format(name="second")}', "second", depends_on=first)
    run = dag.run(mode="far", run_id="r", secrets={"TOKEN": token}, log_dir=f"{folder}/logs")
    sys.exit(0 if run.status == "SUCCESS" else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
