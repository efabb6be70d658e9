"""Lightflow's engine, used from Python."""

from __future__ import annotations

from bench.contestants import kit
from liteflow import Command, Dag, Task

TRUE = Command(("/bin/sh", "-c", "true"))


def _succeeded(dag: Dag, mode: str, log_dir: str | None = None) -> int:
    kit.CLOCK.built()
    run = dag.run(kit.SLOTS, mode, log_dir=log_dir).raise_for_failure()
    kit.CLOCK.stop()
    return sum(status == "SUCCESS" for status in run.statuses().values())


def wide(count: int, mode: str) -> int:
    dag = Dag("wide", "lightflow.db")
    for number in range(count):
        dag.task(kit.nothing, f"t{number}")
    return _succeeded(dag, mode)


def layered(layers: int, width: int, mode: str) -> list[int]:
    dag = Dag("layered", "lightflow.db")
    row = [dag.task(kit.seed, f"t0_{place}", place=place) for place in range(width)]
    for layer in range(1, layers):
        pairs = [kit.parents(place, width) for place in range(width)]
        row = [
            dag.task(kit.join, f"t{layer}_{place}", left=row[left], right=row[right])
            for place, (left, right) in enumerate(pairs)
        ]
    kit.CLOCK.built()
    run = dag.run(kit.SLOTS, mode).raise_for_failure()
    kit.CLOCK.stop()
    statuses = run.statuses().values()
    kit.demand(len(statuses) == layers * width and set(statuses) == {"SUCCESS"}, "not all tasks succeeded")
    return [run.value(task.task_id) for task in row]


def shell(count: int) -> int:
    dag = Dag("shell", "lightflow.db")
    for number in range(count):
        dag.add_task(Task(f"t{number}", body=TRUE))
    return _succeeded(dag, "thread", "logs")


def chain(count: int) -> int:
    dag = Dag("chain", "lightflow.db")
    above = None
    for number in range(count):
        task = dag.add_task(Task(f"t{number}", body=TRUE))
        if above is not None:
            above >> task
        above = task
    return _succeeded(dag, "thread", "logs")


if __name__ == "__main__":
    kit.main(
        {
            "wide": lambda count: wide(count, "thread"),
            "layered": lambda layers, width: layered(layers, width, "thread"),
            "wide-processes": lambda count: wide(count, "process"),
            "layered-processes": lambda layers, width: layered(layers, width, "process"),
            "shell": shell,
            "chain": chain,
        }
    )
