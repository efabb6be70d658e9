"""The nightly workflow on a Dask cluster of two workers, one of which is killed while a task runs there.

    python examples/cluster/night.py

It needs `pip install 'lightflow-workflows[dask]'`. The cluster is on this machine, and ends with the script.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NIGHTLY = Path(__file__).resolve().parents[1] / "nightly" / "nightly.yaml"
SCHEDULER = "scheduler.json"
LIGHTFLOW = [sys.executable, "-m", "lightflow"]


def start_cluster() -> list[subprocess.Popen[bytes]]:
    """Start a scheduler and two workers with two threads each. Return the workers, then the scheduler."""
    Path(SCHEDULER).unlink(missing_ok=True)
    dask = [sys.executable, "-m", "dask"]
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    with Path("cluster.log").open("wb") as log:
        started = [subprocess.Popen([*scheduler, "--scheduler-file", SCHEDULER], stdout=log, stderr=log)]
        for name in ("east", "west"):
            worker = [*dask, "worker", "--scheduler-file", SCHEDULER, "--nthreads", "2", "--no-dashboard", "--no-nanny"]
            started.insert(-1, subprocess.Popen([*worker, "--name", name], stdout=log, stderr=log))
    return started


def attempts() -> list[tuple[str, dict[str, Any]]]:
    """Return the attempts of the latest run, each with the name of its task, and of its instance if it has some."""
    done = subprocess.run([*LIGHTFLOW, "status", "--json"], capture_output=True, text=True, check=False)
    tasks = json.loads(done.stdout)["tasks"] if done.returncode == 0 else []
    rows = [row for task in tasks for row in (task, *(task["instances"] or []))]
    return [
        (row["task"] if row["map_index"] is None else f"{row['task']}[{row['map_index']}]", attempt)
        for row in rows
        for attempt in row["attempts"]
    ]


def fetches(host: str) -> bool:
    """Return whether a source is fetched on a machine now."""
    running = [(name, attempt["host"]) for name, attempt in attempts() if attempt["status"] == "RUNNING"]
    return any(name.startswith("fetch[") and where == host for name, where in running)


def main() -> int:
    """Run a night, and kill the worker `east` while it fetches a source."""
    processes = start_cluster()
    east = processes[0]
    try:
        while not Path(SCHEDULER).exists():
            time.sleep(0.1)
        # Each source needs five seconds to answer: the worker is killed meanwhile.
        command = ["run", str(NIGHTLY), "--mode", "dask", "--cluster", SCHEDULER, "-p", "orders=60", "-p", "delay=5"]
        night = subprocess.Popen([*LIGHTFLOW, *command])
        processes.insert(0, night)
        while night.poll() is None and not fetches("east"):
            time.sleep(0.1)
        if night.poll() is None:
            east.kill()
            print("the worker east is killed", flush=True)
        code = night.wait()
    finally:
        for process in processes:
            process.terminate()
            process.wait()
    print("\nwhere each attempt ran:")
    for name, attempt in attempts():
        print(f"{name:24} attempt {attempt['attempt']} on {attempt['host'] or 'this machine'}: {attempt['status']}")
    return code


if __name__ == "__main__":
    sys.exit(main())
