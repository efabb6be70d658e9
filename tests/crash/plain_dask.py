"""Harness of R29: what tasks of plain Dask leave after the faults that end tasks of a cluster of ours.

    python tests/crash/plain_dask.py FOLDER --seed 7

The tasks are the eight hostile kinds as commands, started by `subprocess` in a function that Dask executes. Two seconds
after each fault the processes are counted that lived before it and still do, and those that are new.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import escapees
from crashkit import HERE, Row, as_harness, lines, marked, report, same

sys.path.append(str(HERE.parent))
from dask_kit import DaskCluster, dask_cluster

LIMIT_S = 2.0
READY_S = 120.0
FAULTS = ("cancel", "client", "workers", "nanny", "scheduler")


def be_client(address: str, mark: str, ready: str) -> None:
    """Submit the tasks; cancel them at the end of the standard input."""
    from distributed import Client

    client = Client(address, set_as_default=False)
    program = [sys.executable, "-S", "-E", str(HERE / "escapees.py")]
    futures = [client.submit(subprocess.call, [*program, kind, mark, ready], pure=False) for kind in escapees.KINDS]
    sys.stdin.read()
    client.cancel(futures, force=True)
    time.sleep(READY_S)


def await_ready(ready: str) -> None:
    give_up = time.monotonic() + READY_S
    while sum(line.startswith("leaf") for line in lines(ready)) < sum(escapees.KINDS.values()):
        assert time.monotonic() < give_up, lines(ready)
        time.sleep(0.01)


def strike(fault: str, cluster: DaskCluster, client: subprocess.Popen[bytes]) -> None:
    if fault == "cancel":
        assert client.stdin is not None
        client.stdin.close()
        return
    victims = {
        "client": [client.pid],
        "workers": cluster.workers(),
        "nanny": [cluster.nannies[0]],
        "scheduler": [cluster.scheduler],
    }
    for pid in victims[fault]:
        os.kill(pid, signal.SIGKILL)


def trial(fault: str, cluster: DaskCluster, folder: Path) -> tuple[int, int, int]:
    """Return how many processes of tasks there were, how many of them are left, and how many are new."""
    mark, ready = f"pd{os.urandom(3).hex()}", str(folder / f"ready-{fault}")
    words = [sys.executable, __file__, str(folder), "--client", cluster.address, mark, ready]
    client = subprocess.Popen(words, stdin=subprocess.PIPE)
    try:
        await_ready(ready)
        before = tasks(mark, client.pid)
        strike(fault, cluster, client)
        time.sleep(LIMIT_S)
        after = tasks(mark, client.pid)
        left = [row for row in before.values() if same(row)]
        return len(before), len(left), len(after) - len(left)
    finally:
        client.kill()
        client.wait()
        for pid in tasks(mark, client.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def tasks(mark: str, client: int) -> dict[int, Row]:
    return {pid: row for pid, row in marked(mark).items() if pid != client}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--client", nargs=3)
    options = parser.parse_args()
    if options.client:
        be_client(*options.client)
        return
    with as_harness(), dask_cluster(options.folder) as cluster:
        faults = {fault: trial(fault, cluster, options.folder) for fault in FAULTS}
    report(faults=faults)


if __name__ == "__main__":
    main()
