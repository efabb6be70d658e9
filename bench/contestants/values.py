"""A value goes from a task to another, many times: through Lightflow, or as JSON in a file."""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path

from bench.contestants import kit
from liteflow import Dag


def make(size: int) -> str:
    return "x" * size


def take(value: str) -> int:
    return len(value)


def ours(size: int, count: int) -> list[int]:
    dag = Dag("values", "lightflow.db")
    takers = [dag.task(take, f"take{n}", value=dag.task(make, f"make{n}", size=size)) for n in range(count)]
    run = dag.run(kit.SLOTS, "thread").raise_for_failure()
    return [run.value(taker.task_id) for taker in takers]


def files(size: int, count: int) -> list[int]:
    found = []
    for number in range(count):
        path = Path(f"{number}.json")
        path.write_text(json.dumps(make(size)), encoding="utf-8")
        found.append(take(json.loads(path.read_text(encoding="utf-8"))))
    return found


if __name__ == "__main__":
    program, bytes_each, pairs = {"ours": ours, "files": files}[sys.argv[1]], int(sys.argv[2]), int(sys.argv[3])
    gc.collect()
    began = time.perf_counter()
    result = program(bytes_each, pairs)
    seconds = time.perf_counter() - began
    kit.demand(result == [bytes_each] * pairs, "values were lost")
    kit.report(seconds, peak_kb=kit.peak_kb())
