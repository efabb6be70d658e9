"""The run of R33: a command with a secret, on a worker of Dask.

R33_SECRET=… python tests/crash/secret_run.py FOLDER ADDRESS
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from lightflow.clusters import dask  # noqa: E402
from liteflow import Command, Dag, Task  # noqa: E402

SCRIPT = '[ -n "$TOKEN" ] || exit 1; touch ready; while [ ! -e gate ]; do sleep 0.02; done'


def main(folder: str, address: str) -> None:
    token = os.environ.pop("R33_SECRET")
    dag = Dag("secret", f"{folder}/state.db", clusters={"far": dask(address, slots=4)}, secrets=["TOKEN"])
    dag.add_task(Task("command", body=Command(("/bin/sh", "-c", SCRIPT), secrets=("TOKEN",))))
    run = dag.run(mode="far", run_id="r", secrets={"TOKEN": token}, log_dir=f"{folder}/logs")
    sys.exit(0 if run.status == "SUCCESS" else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
