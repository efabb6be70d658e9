"""Workloads of Lightflow alone, compared with a smaller size or with a minimal program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from bench.environments import OWN
from bench.measure import ROOT, NotRun
from bench.workloads import LIGHTFLOW, Entry, Prepare, Workload, program


def _fill(module: str, words: str) -> Prepare:
    """Return a function in which a program fills the shared folder."""

    def set_up(shared: Path) -> None:
        command = [sys.executable, "-m", f"bench.contestants.{module}", *words.split()]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "BENCH_SHARED": str(shared)}
        done = subprocess.run(command, cwd=shared, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotRun(f"setting up failed: {done.stderr.strip()[-200:]}")

    return set_up


def growth(shape: str, many: int) -> Workload:
    """Compare time and memory of a task among many with a task among a thousand."""
    return Workload(
        f"growth-{shape}",
        f"a task among {many:,}, {shape}",
        (
            program(LIGHTFLOW, "scale", f"{shape} {many}", durable=True),
            program("among 1,000", "scale", f"{shape} 1000", durable=True),
        ),
        "among 1,000",
        many,
        "us_per_task",
    )


def reading(command: str, runs: int) -> Workload:
    """Compare a reading command on a state file with many runs with one run of the same size."""

    def entry(name: str, file: str) -> Entry:
        words = {"status": "status", "runs": "runs", "why": "why t9_3"}[command]
        argv = ("python", "-m", "lightflow", *words.split(), "--db", f"{{shared}}/{file}")
        return Entry(name, OWN, argv, True, False)

    return Workload(
        f"read-{command}",
        f"`lightflow {command}` with {runs:,} runs and {runs * 100:,} attempts",
        (entry(LIGHTFLOW, "large.db"), entry("one run", "small.db")),
        "one run",
        1,
        "wall",
        set_up=_fill("history", str(runs)),
    )


def values(size: int, count: int, title: str) -> Workload:
    """Pass values of a size from one task to another, `count` times."""
    return Workload(
        f"values-{title.replace(' ', '').lower()}",
        f"{count} {'value' if count == 1 else 'values'} of {title}, from task to task",
        (
            program(LIGHTFLOW, "values", f"ours {size} {count}", durable=True),
            program("JSON in files", "values", f"files {size} {count}"),
        ),
        "JSON in files",
        2 * count,
    )


def files(count: int) -> Workload:
    """Load and validate a large workflow file."""
    return Workload(
        "yaml",
        f"load and validate a YAML file with {count:,} tasks",
        (
            program(LIGHTFLOW, "files", f"ours {count}"),
            program("PyYAML's C loader alone", "files", f"yaml {count}"),
        ),
        "PyYAML's C loader alone",
        count,
    )


OWN_WORKLOADS: Final = (
    growth("chain", 100_000),
    growth("fan", 100_000),
    growth("layered", 100_000),
    Workload(
        "mapped",
        "10,000 instances of a mapped task, each",
        (
            program(LIGHTFLOW, "scale", "mapped 10000", durable=True),
            program("10,000 tasks", "scale", "flat 10000", durable=True),
        ),
        "10,000 tasks",
        10_000,
        "us_per_task",
    ),
    Workload(
        "resume",
        "resume a run of 100,000 tasks of which 99 % are done, processor time",
        (program(LIGHTFLOW, "scale", "resume 100000", durable=True),),
        LIGHTFLOW,
        100_000,
        "cpu_s",
        set_up=_fill("scale", "nearly 100000"),
    ),
    Workload(
        "waiting",
        "5,000 `async` tasks that wait one second, all at once",
        (
            program(LIGHTFLOW, "scale", "waiting 5000", durable=True),
            program("asyncio.gather", "scale", "gathered 5000"),
        ),
        "asyncio.gather",
        5000,
    ),
    files(10_000),
    *(reading(command, 10_000) for command in ("status", "runs", "why")),
    values(1000, 500, "1 KB"),
    values(1_000_000, 20, "1 MB"),
    values(100_000_000, 1, "100 MB"),
    Workload(
        "live",
        "500 shell commands with the live view on a terminal",
        (
            program(LIGHTFLOW, "live", "terminal 500", durable=True),
            program("output in a pipe", "live", "pipe 500", durable=True),
        ),
        "output in a pipe",
        500,
    ),
    Workload(
        "output",
        "500 shell commands that print, with `--output prefix` in a pipe",
        (
            program(LIGHTFLOW, "live", "prefix 500", durable=True),
            program("--output quiet", "live", "quiet 500", durable=True),
        ),
        "--output quiet",
        500,
    ),
)
