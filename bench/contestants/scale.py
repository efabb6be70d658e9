"""The growth of Lightflow: many tasks, a resumed run, many waiting coroutines."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import shutil
import sys
import time
from pathlib import Path

from bench.contestants import kit
from liteflow import Dag, Task

LAYERS = 100


def chain(dag: Dag, count: int) -> None:
    above = dag.task(kit.nothing, "t0")
    for number in range(1, count):
        task = dag.task(kit.nothing, f"t{number}")
        above >> task
        above = task


def fan(dag: Dag, count: int) -> None:
    """Add one task, all others downstream of it, and one task downstream of them."""
    first = dag.task(kit.nothing, "first")
    middle = [dag.task(kit.nothing, f"t{number}") for number in range(count - 2)]
    first >> middle
    middle >> dag.task(kit.nothing, "last")


def layered(dag: Dag, count: int) -> None:
    width = count // LAYERS
    above: list[Task] = []
    for layer in range(LAYERS):
        row = [dag.task(kit.nothing, f"t{layer}_{place}") for place in range(width)]
        for place, task in enumerate(row if above else []):
            for parent in sorted(set(kit.parents(place, width))):
                above[parent] >> task
        above = row


def mapped(dag: Dag, count: int) -> None:
    """Add a task that is mapped over the list of another task, and a task that reads all its values."""
    numbers = dag.task(_numbers, "numbers", count=count - 2)
    values = dag.partial(_one, "one").expand(number=numbers)
    dag.task(_last, "last", values=values)


def flat(dag: Dag, count: int) -> None:
    """Add the same number of independent tasks."""
    for number in range(count):
        dag.task(_one, f"t{number}", number=number)


def _numbers(count: int) -> list[int]:
    kit.nothing()
    return list(range(count))


def _one(number: int) -> int:
    kit.nothing()
    return number


def _last(values: list[int]) -> int:
    kit.nothing()
    return sum(values)


SHAPES = {"chain": chain, "fan": fan, "layered": layered, "mapped": mapped, "flat": flat}


def grow(shape: str, count: int) -> None:
    """Measure time and memory a task, of building the graph and running it."""
    before = kit.peak_kb()
    gc.collect()
    cpu_before, began = cpu_s(), time.perf_counter()
    dag = Dag(shape, "lightflow.db")
    SHAPES[shape](dag, count)
    dag.run(kit.SLOTS, "thread").raise_for_failure()
    seconds, cpu = time.perf_counter() - began, cpu_s() - cpu_before
    kit.demand(len(kit.DONE) == count, f"{len(kit.DONE)} of {count}")
    kit.report(
        seconds,
        us_per_task=seconds / count * 1e6,
        cpu_us_per_task=cpu / count * 1e6,
        kb_per_task=(kit.peak_kb() - before) / count,
    )


def _unless_broken(place: int) -> None:
    if os.environ.get("BENCH_BROKEN"):
        raise RuntimeError("not yet")
    kit.nothing()


def _nearly_done(path: str, count: int) -> Dag:
    """Return a dag whose last layer, one task of a hundred, fails while BENCH_BROKEN is set."""
    dag, width = Dag("resume", path), count // LAYERS
    above = [dag.task(kit.nothing, f"t0_{place}") for place in range(width)]
    for layer in range(1, LAYERS):
        if layer < LAYERS - 1:
            row = [dag.task(kit.nothing, f"t{layer}_{place}") for place in range(width)]
        else:
            row = [dag.task(_unless_broken, f"t{layer}_{place}", place=place) for place in range(width)]
        for place, task in enumerate(row):
            for parent in sorted(set(kit.parents(place, width))):
                above[parent] >> task
        above = row
    return dag


def resume(count: int) -> None:
    """Measure the processor time of resuming a run of which 99 of 100 tasks are done."""
    shutil.copy(Path(os.environ["BENCH_SHARED"], "nearly.db"), "nearly.db")
    gc.collect()
    before, began = cpu_s(), time.perf_counter()
    run = _nearly_done("nearly.db", count).resume(max_workers=kit.SLOTS, mode="thread").raise_for_failure()
    seconds, cpu = time.perf_counter() - began, cpu_s() - before
    kit.demand(set(run.statuses().values()) == {"SUCCESS"}, "not all tasks succeeded")
    kit.demand(len(kit.DONE) == count // LAYERS, f"{len(kit.DONE)} tasks ran")
    kit.report(seconds, cpu_s=cpu)


def nearly(count: int) -> None:
    """Create the run that `resume` continues."""
    os.environ["BENCH_BROKEN"] = "1"
    path = Path(os.environ["BENCH_SHARED"], "nearly.db")
    run = _nearly_done(str(path), count).run(kit.SLOTS, "thread")
    kit.demand(run.status == "FAILED", f"the run is {run.status}")


def cpu_s() -> float:
    """Return the processor time of this process and of its reaped children."""
    who = [resource.getrusage(one) for one in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in who)


async def _sleep() -> None:
    await asyncio.sleep(1)
    kit.nothing()


def waiting(count: int) -> None:
    """Measure coroutines that all wait at the same time."""
    gc.collect()
    began = time.perf_counter()
    dag = Dag("waiting", "lightflow.db")
    for number in range(count):
        dag.task(_sleep, f"t{number}")
    dag.run(count, "async").raise_for_failure()
    seconds = time.perf_counter() - began
    kit.demand(len(kit.DONE) == count, f"{len(kit.DONE)} of {count}")
    kit.report(seconds)


def gathered(count: int) -> None:
    """Measure the same with asyncio alone."""

    async def work() -> None:
        await asyncio.gather(*[_sleep() for _ in range(count)])

    gc.collect()
    began = time.perf_counter()
    asyncio.run(work())
    seconds = time.perf_counter() - began
    kit.demand(len(kit.DONE) == count, f"{len(kit.DONE)} of {count}")
    kit.report(seconds)


if __name__ == "__main__":
    what, size = sys.argv[1], int(sys.argv[2])
    if what in SHAPES:
        grow(what, size)
    else:
        {"resume": resume, "nearly": nearly, "waiting": waiting, "gathered": gathered}[what](size)
