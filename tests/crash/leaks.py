"""Harness of R16: many tasks in one process, and what they leave behind in it.

python tests/crash/leaks.py FOLDER --tasks 10000 [--control descriptor|zombie|thread]
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import threading
import time
from functools import partial
from typing import NamedTuple

from crashkit import as_harness, descendants, process_table, report

from liteflow import Command, Dag, Task

#: How a round's tasks are spread: the mode, the tasks a run has in a full round, and whether they are commands.
ROUND = (("thread", 500, False), ("process", 350, False), ("process", 150, True))
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Sample(NamedTuple):
    """What this process holds at one moment."""

    descriptors: int
    threads: int
    processes: int  # below it
    zombies: int
    kib: int  # of memory of its own


def sample() -> Sample:
    gc.collect()
    me = os.getpid()
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = file.read().split()
    zombies = sum(row.parent == me and row.state in "ZX" for row in process_table().values())
    return Sample(
        len(os.listdir("/proc/self/fd")),
        len(os.listdir("/proc/self/task")),
        len(descendants()),
        zombies,
        (int(pages[1]) - int(pages[2])) * _PAGE // 1024,
    )


def work(number: int) -> int:
    return number


def one_round(folder: str, number: int, size: float) -> int:
    """Three runs, of threads, of workers and of commands; returns how many tasks that were."""
    done = 0
    for place, (mode, count, commands) in enumerate(ROUND):
        count = max(1, round(count * size))
        db = f"{folder}/{number}_{place}.db"
        dag = Dag("many", db)
        for task in range(count):
            if commands:
                dag.add_task(Task(f"t{task}", body=Command(("true",))))
            else:
                dag.task(partial(work, task), f"t{task}")
        run = dag.run(8, mode, log_dir=f"{folder}/logs")
        assert run.status == "SUCCESS", run.failures()
        done += count
        for suffix in ("", "-wal", "-shm", ".lock"):
            if os.path.exists(db + suffix):
                os.unlink(db + suffix)
    return done


def leak(control: str | None, preserved: list[object]) -> None:
    """What a faulty engine would leave behind once a round."""
    if control == "descriptor":
        preserved.append(os.pipe())
    elif control == "zombie":
        preserved.append(subprocess.Popen(["true"]))
        time.sleep(0.05)
    elif control == "thread":
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    elif control == "memory":
        preserved.append(bytearray(os.urandom(4 * 1024 * 1024)))


def slope(points: list[tuple[int, int]]) -> float:
    """The slope of a straight line through the points, by least squares."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--control", choices=("descriptor", "zombie", "thread", "memory"))
    given = parser.parse_args()
    began = time.monotonic()
    preserved: list[object] = []
    size = given.tasks / given.rounds / sum(count for _, count, _ in ROUND)
    with as_harness(limit_s=120 + given.tasks // 20):
        one_round(given.folder, 0, min(size, 0.2))  # what is made once is made now
        first = last = sample()
        done, memory = 0, list[tuple[int, int]]()
        for number in range(given.rounds):
            done += one_round(given.folder, number + 1, size)
            leak(given.control, preserved)
            last = sample()
            memory.append((done, last.kib))
        logs = os.listdir(f"{given.folder}/logs") if os.path.isdir(f"{given.folder}/logs") else []
        report(
            tasks=done,
            descriptors=last.descriptors - first.descriptors,
            threads=last.threads - first.threads,
            processes=last.processes - first.processes,
            zombies=last.zombies,
            files=len(logs),
            kib_per_task=round(slope(memory), 4),
            memory=memory,
            worst_seconds=time.monotonic() - began,
        )


if __name__ == "__main__":
    main()
