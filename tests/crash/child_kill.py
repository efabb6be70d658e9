"""Harness of R26: a run whose tasks execute child runs is killed after each change that any of its runs has stored.

    python tests/crash/child_kill.py FOLDER --points 12 --seed 7 [--control outlives]

The victims are the parent run's process, its guardian, both at once, the process of a child run, and the guardian of a
child run. After each kill nothing may be alive without a parent, and a resume ends the run: no task that has
succeeded runs again, no step runs twice at a time, and each instance has one child run.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping

from crashkit import as_harness, await_none, descendants, event_fold, fork, report, row_of, same, wait_for

from liteflow import Dag
from liteflow.processes import tree

DB, RUN = "state.db", "r"
ITEMS = (0, 1)
#: The steps of the run, each of which has its effect once in a run that nobody kills.
STEPS = {"begin", "end", *(f"{name}{item}" for name in ("first", "second") for item in ITEMS)}
VICTIMS = ("parent", "guardian", "both", "child", "child_guardian")
LIMIT_S = 60.0


def step(name: str) -> str:
    """Do a step: note it, and note it, too, if another process does it at the same time."""
    with open(f"{name}.lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _note(f"overlap:{name}")
        _note(name)
        time.sleep(float(os.environ.get("STEP_S", "0.02")))
    return name


def _note(text: str) -> None:
    with open("steps", "a", encoding="utf-8") as file:
        file.write(f"{text}\n")


def part() -> Dag:
    dag = Dag("part", params={"item": 0})
    first = dag.task(lambda: step(f"first{_item()}"), task_id="first")
    second = dag.task(lambda first: step(f"second{_item()}"), task_id="second", first=first)
    dag.outputs["second"] = second
    return dag


def _item() -> int:
    from liteflow import current_context

    return int(current_context().params["item"])


def whole() -> Dag:
    with Dag("whole", DB) as dag:
        begin = dag.task(lambda: step("begin"), task_id="begin")
        parts = dag.workflow("parts", part(), expand={"item": list(ITEMS)}, depends_on=begin)
        dag.task(lambda parts: step("end"), task_id="end", parts=parts)
    return dag


def run() -> None:
    assert whole().run(2, run_id=RUN).status == "SUCCESS"


def resume() -> None:
    assert whole().resume(RUN).status == "SUCCESS"


def rows(sql: str) -> list[tuple[object, ...]]:
    try:
        connection = sqlite3.connect(f"file:{DB}?mode=ro", uri=True, timeout=10)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()
    except sqlite3.OperationalError:
        return []


def last_event() -> int:
    maximum = rows("SELECT coalesce(max(seq), 0) FROM liteflow_events")
    return int(str(maximum[0][0])) if maximum else 0


def has_run() -> bool:
    return bool(rows(f"SELECT 1 FROM liteflow_dag_runs WHERE run_id='{RUN}'"))


def successes() -> set[tuple[object, ...]]:
    return set(rows("SELECT run_id, task_id, map_index, attempt FROM liteflow_attempts WHERE status='SUCCESS'"))


def victims_of(kind: str, parent: int) -> list[int]:
    """Return the processes to kill."""
    below = {pid: row for pid, row in descendants(parent).items() if row.parent == parent}
    guardians = list(below)
    owners = [
        int(str(pid)) for (pid,) in rows("SELECT owner_pid FROM liteflow_dag_runs WHERE parent_run_id IS NOT NULL")
    ]
    children = [pid for pid in owners if (row := row_of(pid)) is not None and row.state not in "ZX" and pid != parent]
    below_child = [pid for child in children[:1] for pid, row in descendants(child).items() if row.parent == child]
    named: Mapping[str, list[int]] = {
        "parent": [parent],
        "guardian": guardians,
        "both": [*guardians, parent],
        "child": children[:1],
        "child_guardian": below_child[:1],
    }
    return named[kind]


def kill(pids: list[int]) -> None:
    """Kill processes at once: stopped before, so that none sees the end of another."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


def one_point(kind: str, point: int, counts: Counter[str], *, control: bool) -> None:
    shutil.rmtree("work", ignore_errors=True)
    os.mkdir("work")
    os.chdir("work")
    parent = fork(run)
    give_up = time.monotonic() + LIMIT_S
    while last_event() < point and row_of(parent) is not None and time.monotonic() < give_up:
        if (row := row_of(parent)) is not None and row.state in "ZX":
            break
        time.sleep(0.001)
    before = descendants(parent)
    pids = victims_of(kind, parent)
    kill(pids)
    counts["kills" if pids else "nobody"] += 1
    dies = parent in pids
    if dies or control:
        wait_for(parent)
        _, left = await_none(lambda: [row for row in before.values() if same(row)], 0.3 if control else 5.0)
        counts["outlived"] += bool(left)
        done = successes()
        if has_run():
            counts["crashed"] += wait_for(fork(resume)) != 0
    else:
        done = successes()
        counts["crashed"] += wait_for(parent) != 0
    look(done, counts)
    os.chdir("..")


def look(done: set[tuple[object, ...]], counts: Counter[str]) -> None:
    """Compare what has run with what is stored."""
    noted = open("steps", encoding="utf-8").read().split() if os.path.exists("steps") else []  # noqa: SIM115
    counts["overlaps"] += sum(name.startswith("overlap:") for name in noted)
    counts["unfolded"] += len(event_fold.differences(DB))
    if not has_run():
        return
    counts["missing"] += len(STEPS - set(noted))
    per_instance = Counter(row[:3] for row in successes())
    counts["repeated"] += sum(number > 1 for number in per_instance.values())
    counts["rewritten"] += not done <= successes()
    sql = "SELECT parent_map_index, count(*) FROM liteflow_dag_runs WHERE parent_run_id IS NOT NULL GROUP BY 1"
    counts["twins"] += sum(int(str(number)) != 1 for _, number in rows(sql))
    counts["children"] += len(rows(sql)) != len(ITEMS)


DEFECTS = (
    "outlived",
    "crashed",
    "overlaps",
    "unfolded",
    "missing",
    "repeated",
    "rewritten",
    "twins",
    "children",
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--points", type=int, default=0, help="how many; 0: all")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--control", choices=["outlives"])
    options = parser.parse_args()
    began, counts = time.monotonic(), Counter[str]()
    os.chdir(options.folder)
    if options.control:  # a worker that does not ask the kernel to be killed with its guardian

        def nothing(parent: int) -> None:
            return

        tree.die_with_parent = nothing
        os.environ["STEP_S"] = "1.0"
    with as_harness(limit_s=1800):
        os.mkdir("whole")
        os.chdir("whole")
        assert wait_for(fork(run)) == 0
        total = last_event()
        os.chdir("..")
        kinds = ("both",) if options.control else VICTIMS
        points = [(kind, point) for kind in kinds for point in range(1, total)]
        if options.points:
            points = random.Random(options.seed).sample(points, min(len(points), options.points))
        for kind, point in points:
            one_point(kind, point, counts, control=bool(options.control))
    names = ("kills", "nobody", *DEFECTS)
    report(**{name: counts[name] for name in names}, worst_of=total, worst_seconds=time.monotonic() - began)


if __name__ == "__main__":
    main()
