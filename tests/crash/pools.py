"""Harness of R17: several runs share a pool, or are of one group, while their owners are killed and resumed.

python tests/crash/pools.py FOLDER pool|group --count 10 --seed 7 [--control deaf]

The oracle is the kernel's: a task takes as many locked files as it holds slots, without waiting, and there are as many
files as slots. A file that is taken already means that more slots are in use than there are.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import random
import signal
import time
from collections.abc import Iterator
from functools import partial

from crashkit import Faults, append, as_harness, await_none, descendants, end_descendants, fork, lines, report, wait_for

import liteflow.state.pools
from liteflow import Concurrency, Dag, RetryPolicy, StoreError
from liteflow.state.history import History

_LIMIT_S = 60.0
_TASKS = 6


def deaf() -> None:
    """Runs take no notice of each other."""
    liteflow.state.pools.SlotAllocator._is_alive = lambda self, run_no: run_no == self._run_no  # type: ignore[method-assign]


@contextlib.contextmanager
def held(folder: str, name: str, number: int, size: int) -> Iterator[int]:
    """Take locked files, so many of that number; yields how many could not be had."""
    handles = []
    for place in range(size):
        if len(handles) == number:
            break
        handle = os.open(f"{folder}/{name}{place}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
        else:
            handles.append(handle)
    try:
        yield number - len(handles)
    finally:
        for handle in handles:
            os.close(handle)


def work(folder: str, name: str, slots: int, size: int, seconds: float) -> None:
    with held(folder, name, slots, size) as lacking:
        if lacking:
            append(f"{folder}/faults", f"{name}: {lacking} of {slots} slots were in use by somebody else")
        append(f"{folder}/trail", name)
        time.sleep(seconds)


def pool_run(folder: str, name: str, seed: int, size: int, what: str, control: bool) -> None:
    """Start the run of that name, or go on with it."""
    if control:
        deaf()
    chance = random.Random(f"{seed} {name}")
    pooled = what == "pool"
    dag = Dag(
        name,
        f"{folder}/state.db",
        pools={"p": size} if pooled else None,
        concurrency=None if pooled else Concurrency("g", 1, "queue"),
    )
    for number in range(_TASKS):
        slots = chance.randint(1, size)
        task = dag.task(
            partial(work, folder, what, slots if pooled else 1, size if pooled else 1, chance.uniform(0.002, 0.02)),
            f"t{number}",
            resources={"p": slots} if pooled else {},
            priority=chance.randint(-1, 1),
            retries=1,
        )
        if not pooled and number:
            dag.tasks[f"t{number - 1}"] >> task
    mode = chance.choice(["process", "thread"]) if control else "process"
    try:
        status = dag.resume(name, 3, mode, retry=RetryPolicy(1)).status
    except StoreError:  # there is no such run, or no file yet
        status = dag.run(3, mode, run_id=name).status
    assert status == "SUCCESS", status


def trial(folder: str, number: int, chance: random.Random, what: str, control: bool, result: Faults) -> None:
    place = f"{folder}/{what}{number}"
    os.mkdir(place)
    size, seed = chance.randint(1, 3), chance.randrange(10**9)
    names = [f"r{entry}" for entry in range(chance.randint(2, 4))]

    def begin(name: str) -> int:
        return fork(partial(pool_run, place, name, seed, size, what, control))

    at_work = {begin(name): name for name in names}
    kills = 0 if control else chance.randint(1, 5)
    give_up = time.monotonic() + _LIMIT_S
    while at_work and time.monotonic() < give_up:
        if kills:
            time.sleep(chance.uniform(0.0, 0.15))
            victim = chance.choice(list(at_work))
            os.kill(victim, signal.SIGKILL)
            kills -= 1
            result.counts["kills"] += 1
        for pid, name in list(at_work.items()):
            code = wait_for(pid, 0.02)
            if code is None:
                continue
            del at_work[pid]
            if code == -signal.SIGKILL:
                at_work[begin(name)] = name
            elif code:
                result.fault("codes", f"round {number}: {name} ended with {code}")
    if at_work:
        result.fault("stuck", f"round {number}: {sorted(at_work.values())} did not end")
        end_descendants()
    for line in lines(f"{place}/faults"):
        result.fault("over", f"round {number}: {line}")
    with History(f"{place}/state.db") as history:
        for name in names if not at_work else ():
            if history.run(name).status != "SUCCESS":
                result.fault("story", f"round {number}: {name} is {history.run(name).status}")
        rows = history._rows("SELECT count(*) FROM liteflow_slots")
        if rows != [(0,)] and not at_work:
            result.fault("left", f"round {number}: {rows[0][0]} rows of slots are left")
    _, survivors = await_none(descendants)
    if survivors:
        result.fault("survivors", f"round {number}: {survivors}")
    end_descendants()
    result.counts["rounds"] += 1
    result.counts["tasks"] += len(lines(f"{place}/trail"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("what", choices=("pool", "group"))
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--control", choices=("deaf",))
    given = parser.parse_args()
    began, result, chance = time.monotonic(), Faults(), random.Random(given.seed)
    with as_harness(limit_s=120 + 70 * given.count):
        for number in range(given.count):
            trial(given.folder, number, chance, given.what, given.control is not None, result)
    kinds = ("rounds", "kills", "tasks", "over", "stuck", "codes", "story", "left", "survivors")
    fields = {kind: result.counts[kind] for kind in kinds}
    report(**fields, notes=result.notes, worst_seconds=time.monotonic() - began)


if __name__ == "__main__":
    main()
