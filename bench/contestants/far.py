"""Tasks on other machines: `python -m bench.contestants.far PROGRAM …` prints what one run has cost as JSON."""

from __future__ import annotations

import gc
import json
import resource
import sqlite3
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from lightflow.clusters import dask
from lightflow.clusters.shipping import shipping
from liteflow import Dag
from liteflow.api import Cluster

LAYERS: Final = 100


def nothing() -> None:
    """Do nothing."""


def same(number: int = 0) -> int:
    """Do nothing to a number."""
    return number


def hosts(machines: int, slots: int) -> Cluster:
    """Return a cluster of agents on this machine."""
    argv = [sys.executable, "-m", "liteflow.remote.agent"]
    listed = [{"name": f"w{number}", "slots": slots, "argv": argv} for number in range(machines)]
    placer = (sys.executable, "-m", "liteflow.remote.hosts", json.dumps(listed))
    return Cluster(argv=placer, slots=machines * slots, shipping=shipping())


def simulated(machines: int, slots: int) -> Cluster:
    """Return a cluster of agents that answer at once."""
    argv = (sys.executable, "-m", "bench.contestants.agents", str(machines), str(slots))
    return Cluster(argv=argv, slots=machines * slots, shipping=shipping())


def flat(dag: Dag, count: int) -> None:
    for number in range(count):
        dag.task(nothing, f"t{number}")


def chain(dag: Dag, count: int) -> None:
    above = dag.task(nothing, "t0")
    for number in range(1, count):
        below = dag.task(nothing, f"t{number}")
        above >> below
        above = below


def layered(dag: Dag, count: int) -> None:
    """Add layers in which each task reads the value of one task above it."""
    row: list[Any] = []
    for layer in range(LAYERS):
        row = [
            dag.task(same, f"t{layer}_{place}", **({"number": row[place]} if row else {}))
            for place in range(count // LAYERS)
        ]


SHAPES: Final[dict[str, Callable[[Dag, int], None]]] = {"flat": flat, "chain": chain, "layered": layered}


def run(shape: str, count: int, cluster: Cluster) -> dict[str, float]:
    """Run tasks on a cluster, and return what that has cost in this process, in seconds and kilobytes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    built = time.perf_counter()
    dag = Dag(shape, "far.db", clusters={"far": cluster})
    SHAPES[shape](dag, count)
    gc.collect()
    cpu, began = time.process_time(), time.perf_counter()
    dag.run(4, "far").raise_for_failure()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    with sqlite3.connect("far.db") as file:
        (busy,) = file.execute("SELECT max(ended_at) - min(started_at) FROM liteflow_attempts").fetchone()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "build_s": began - built,
        "seconds": seconds,
        "cpu_s": cpu,
        "busy_s": busy,
        "kb_per_task": (peak - before) / count,
    }


def peer(shape: str, count: int, scheduler: str) -> dict[str, float]:
    """Run tasks with the client of Dask alone, which keeps no state."""
    from distributed import Client

    began = time.perf_counter()
    with Client(scheduler, set_as_default=False) as client:
        cpu = time.process_time()
        if shape == "flat":
            client.gather(client.map(_same, range(count), pure=False))
        else:
            last = client.submit(_same, 0, pure=False)
            for _ in range(count - 1):
                last = client.submit(_same, last, pure=False)
            last.result()
        cpu = time.process_time() - cpu
    return {"seconds": time.perf_counter() - began, "cpu_s": cpu}


def _same(number: int) -> int:
    return number


def main(words: list[str]) -> dict[str, float]:
    """Run `SHAPE COUNT hosts|simulated|dask|peer …`."""
    shape, count, where, rest = words[0], int(words[1]), words[2], words[3:]
    if where == "peer":
        return peer(shape, count, rest[0])
    if where == "dask":
        return run(shape, count, dask(rest[0], slots=int(rest[1])))
    return run(shape, count, {"hosts": hosts, "simulated": simulated}[where](int(rest[0]), int(rest[1])))


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
