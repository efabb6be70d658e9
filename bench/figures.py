"""Print the figures of the README, measured now, each beside its baseline in the same run.

    python bench/figures.py            print the table
    python bench/figures.py --write    and put it into README.md

Every figure is the median of several rounds; in a round ours and the baseline take turns. Seconds mean little on
another machine, ratios mean more.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from liteflow import Command, Dag, Task  # noqa: E402 - the checkout this file is in

ROUNDS = 5
START, END = "<!-- figures:start -->", "<!-- figures:end -->"


def nothing() -> None:
    """What a task does here: the cost is the engine's."""


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def side_by_side(ours: Callable[[], float], baseline: Callable[[], float]) -> tuple[float, float]:
    """Medians of the two, taken in turn."""
    pairs = [(ours(), baseline()) for _ in range(ROUNDS)]
    return statistics.median(one for one, _ in pairs), statistics.median(other for _, other in pairs)


def run_dag(count: int, mode: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        dag = Dag("figures", f"{folder}/liteflow.db")
        for number in range(count):
            dag.task(nothing, f"t{number}")
        return seconds(lambda: dag.run(4, mode).raise_for_failure())


def pool(count: int, kind: type[ThreadPoolExecutor] | type[ProcessPoolExecutor]) -> float:
    def work() -> None:
        with kind(4) as executor:
            for future in [executor.submit(nothing) for _ in range(count)]:
                future.result()

    return seconds(work)


def run_commands(count: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        dag = Dag("figures", f"{folder}/liteflow.db")
        for number in range(count):
            dag.add_task(Task(f"t{number}", body=Command(("/bin/sh", "-c", "true"))))
        return seconds(lambda: dag.run(4, "thread", log_dir=f"{folder}/logs").raise_for_failure())


def make(count: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        names = " ".join(f"t{number}" for number in range(count))
        Path(folder, "Makefile").write_text(f".PHONY: {names}\nall: {names}\n{names}:\n\t@true;\n", encoding="utf-8")
        return seconds(lambda: subprocess.run(["make", "-s", "-j4", "-C", folder], check=True))


def cpu(*command: str, cwd: str | None = None) -> float:
    """Seconds of processor time a command and its children take."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, cwd=cwd)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cold_start(one_task: bool) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "one.yaml").write_text("name: one\ntasks: {one: {run: 'true'}}\n", encoding="utf-8")
        program = [sys.executable, "-m", "lightflow"]
        ours = [*program, "run", "one.yaml", "--quiet"] if one_task else [*program, "--version"]
        environment = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = str(ROOT)
        try:
            cpu(*ours, cwd=folder)  # once for the caches
            return side_by_side(lambda: cpu(*ours, cwd=folder), lambda: cpu(sys.executable, "-c", "pass"))
        finally:
            if environment is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = environment


def large(count: int) -> tuple[float, float]:
    """Seconds per task and kilobytes per task of a layered graph, in a process of its own."""
    code = f"""
import resource, tempfile, time
from liteflow import Dag
def nothing(): pass
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before, count, width = peak(), {count}, {count} // 100
with tempfile.TemporaryDirectory() as folder:
    dag, above = Dag("large", folder + "/liteflow.db"), []
    for layer in range(100):
        row = [dag.task(nothing, f"t{{layer}}_{{place}}") for place in range(width)]
        for place, task in enumerate(row if above else []):
            above[place] >> task
            above[(7 * place + 1) % width] >> task
        above = row
    began = time.perf_counter()
    dag.run(4, "thread").raise_for_failure()
    print((time.perf_counter() - began) / count, (peak() - before) / count)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    taken, size = done.stdout.split()
    return float(taken), float(size)


def table() -> str:
    rows = [("what", "Lightflow", "beside it", "ratio")]

    def row(what: str, ours: float, baseline: float, name: str, unit: Callable[[float], str]) -> None:
        rows.append((what, unit(ours), f"{name}: {unit(baseline)}", f"{ours / baseline:.2f}"))

    def milliseconds(value: float) -> str:
        return f"{value * 1000:.0f} ms"

    ours, bare = side_by_side(lambda: run_dag(1000, "thread"), lambda: pool(1000, ThreadPoolExecutor))
    row("1,000 empty Python tasks, 4 threads", ours, bare, "bare thread pool, keeps no state", milliseconds)
    ours, bare = side_by_side(lambda: run_dag(1000, "process"), lambda: pool(1000, ProcessPoolExecutor))
    row("1,000 empty Python tasks, 4 processes", ours, bare, "bare process pool, keeps no state", milliseconds)
    if shutil.which("make"):
        ours, bare = side_by_side(lambda: run_commands(500), lambda: make(500))
        row("500 shell commands, 4 at a time", ours, bare, "`make -j4`", milliseconds)
    ours, bare = cold_start(one_task=False)
    row("`lightflow --version`, processor time", ours, bare, "`python -c pass`", milliseconds)
    ours, bare = cold_start(one_task=True)
    row("a YAML file with one task, processor time", ours, bare, "`python -c pass`", milliseconds)
    small, big = large(1000), large(100_000)
    row("a task among 100,000 with 200,000 edges", big[0], small[0], "among 1,000", lambda s: f"{s * 1e6:.0f} µs")
    rows.append(("memory for each of 100,000 tasks", f"{big[1]:.1f} KB", "", ""))
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    lines.insert(1, "| --- | --- | --- | --- |")
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} processors"
    return (
        "\n".join(lines) + f"\n\nMedians of {ROUNDS} rounds, in turn; {versions}. Print it again with `make figures`."
    )


def main() -> None:
    text = table()
    print(text)
    if "--write" in sys.argv[1:]:
        readme = ROOT / "README.md"
        before, rest = readme.read_text(encoding="utf-8").split(START)
        after = rest.split(END)[1]
        readme.write_text(f"{before}{START}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
