"""`python -m bench far`: what a task on another machine costs, beside Dask's own client, and 100 simulated machines.

Beside Dask, rounds of the two programs alternate, so a busy machine slows both. The processor time is that of the
process that owns the run; agents, workers and placers are others.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.measure import ROOT, NotRun

TASKS: Final = 10_000
STEPS: Final = 200
WORKERS: Final = 2
THREADS: Final = 2
ROUNDS: Final = 3
MACHINES: Final = 100
SLOTS: Final = 16
MANY: Final = 1_000_000
FEW: Final = 20_000
CPU_GOAL_US: Final = 80.0
STEP_GOAL_MS: Final = 1.0
RATIO_GOAL: Final = 1.0
RATE_GOAL: Final = 10_000
KB_GOAL: Final = 1.0
TOLERANCE: Final = 1.5
_START_S: Final = 120.0

Cost = dict[str, float]


def cost(*words: object) -> Cost:
    """Run a program of `bench.contestants.far` in an empty folder. Raises NotRun."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench.contestants.far", *map(str, words)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotRun((done.stderr.strip().splitlines() or ["it has failed"])[-1])
    result: Cost = json.loads(done.stdout.splitlines()[-1])
    return result


@contextmanager
def dask_cluster(folder: Path) -> Iterator[str]:
    """Run a scheduler and workers on loopback; yield the address. Raises NotRun."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    started: list[subprocess.Popen[bytes]] = []
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [["scheduler", "--port", str(port)]]
    words += [["worker", address, "--nthreads", str(THREADS), "--name", f"w{number}"] for number in range(WORKERS)]
    try:
        for number, arguments in enumerate(words):
            command = [sys.executable, "-m", "dask", *arguments, "--host", "127.0.0.1", "--no-dashboard"]
            log = folder / f"{number}.log"
            with log.open("wb") as file:
                started.append(subprocess.Popen(command, cwd=folder, env=environ, stdout=file, stderr=file))
            _await(log, "Registered to" if number else "Scheduler at", started[-1])
        yield address
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in started:
            process.wait()


def _await(log: Path, words: str, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + _START_S
    while words not in log.read_text(encoding="utf-8"):
        if process.poll() is not None or time.monotonic() > give_up:
            raise NotRun(f"Dask does not start: {log.read_text(encoding='utf-8')[-200:]}")
        time.sleep(0.05)


def middle(costs: list[Cost], name: str) -> float:
    """Return the median of a number of several rounds."""
    return statistics.median(each[name] for each in costs)


def agents() -> list[bool]:
    """Measure agents on this machine; return which goals are missed."""
    wide = [cost("flat", TASKS, "hosts", WORKERS, THREADS) for _ in range(ROUNDS)]
    long = [cost("chain", STEPS, "hosts", WORKERS, THREADS) for _ in range(ROUNDS)]
    task_us, step_ms = middle(wide, "cpu_s") / TASKS * 1e6, middle(long, "busy_s") / STEPS * 1e3
    rate = TASKS / middle(wide, "busy_s")
    print(f"{TASKS:,} empty tasks on {WORKERS} agents with {THREADS} slots each:")
    print(f"  {task_us:.0f} µs of processor time of the owner a task (goal {CPU_GOAL_US:.0f}), {rate:,.0f} tasks/s")
    print(f"  a step of a chain of {STEPS}: {step_ms:.2f} ms (goal {STEP_GOAL_MS:.1f})")
    return _missed(task_us, step_ms)


def beside_dask() -> list[bool]:
    """Measure the same on a Dask cluster, in turns with Dask's own client; return which goals are missed."""
    with tempfile.TemporaryDirectory() as folder, dask_cluster(Path(folder)) as address:
        wide, wide_peers, long, long_peers = list[Cost](), list[Cost](), list[Cost](), list[Cost]()
        for _ in range(ROUNDS):
            wide.append(cost("flat", TASKS, "dask", address, WORKERS * THREADS))
            wide_peers.append(cost("flat", TASKS, "peer", address))
            long.append(cost("chain", STEPS, "dask", address, WORKERS * THREADS))
            long_peers.append(cost("chain", STEPS, "peer", address))
    ratio = statistics.median(our["seconds"] / peer["seconds"] for our, peer in zip(wide, wide_peers, strict=True))
    task_us, peer_us = (middle(costs, "cpu_s") / TASKS * 1e6 for costs in (wide, wide_peers))
    step_ms, peer_ms = middle(long, "busy_s") / STEPS * 1e3, middle(long_peers, "seconds") / STEPS * 1e3
    print(f"{TASKS:,} empty tasks on a Dask cluster of {WORKERS} workers with {THREADS} threads, whole runs:")
    print(f"  {ratio:.2f} times the time of Dask's client with `map` and `gather` (goal {RATIO_GOAL:.1f})")
    print(f"  {task_us:.0f} µs of processor time a task (goal {CPU_GOAL_US:.0f}); Dask's client {peer_us:.0f} µs")
    print(f"  a step of a chain of {STEPS}: {step_ms:.2f} ms (goal {STEP_GOAL_MS:.1f}); Dask's client {peer_ms:.2f} ms")
    return [ratio > RATIO_GOAL, *_missed(task_us, step_ms)]


def _missed(task_us: float, step_ms: float) -> list[bool]:
    """Return whether a task, and a step of a chain, have clearly missed their goals."""
    return [task_us > CPU_GOAL_US * TOLERANCE, step_ms > STEP_GOAL_MS * TOLERANCE]


def machines(count: int) -> list[bool]:
    """Simulate many machines whose agents answer at once; return which goals are missed."""
    title = f"{MACHINES} simulated machines with {SLOTS} slots each"
    print(f"\n| {title} | tasks/s | whole run | CPU a task | memory a task |")
    print("| --- | --- | --- | --- | --- |")
    missed: list[bool] = []
    for shape, tasks in (("flat", count), ("layered", min(count, 100_000))):
        each = cost(shape, tasks, "simulated", MACHINES, SLOTS)
        rate, cpu_us = tasks / each["busy_s"], each["cpu_s"] / tasks * 1e6
        print(
            f"| {tasks:,} tasks, {shape} | {rate:,.0f} | {each['seconds']:.1f} s | {cpu_us:.0f} µs "
            f"| {each['kb_per_task']:.2f} KB |"
        )
        if shape == "flat":
            missed += [rate < RATE_GOAL / TOLERANCE, tasks > FEW and each["kb_per_task"] > KB_GOAL * TOLERANCE]
    return missed


def main(options: argparse.Namespace) -> int:
    """Measure, print, and return 1 if a goal is clearly missed."""
    missed = agents()
    try:
        missed += beside_dask()
    except NotRun as error:
        print(f"beside Dask: not run: {error}")
    missed += machines(options.tasks)
    return int(any(missed))
