"""Harness of R27: a run that waits is killed at the entry of each of its changes of the disk, and resumed.

    python tests/crash/wait_kill.py FOLDER --points 60 --seed 7 [--only park] [--control early_wake]

The run has a task that begins something and waits for it, an approval that a hook decides, and a repeated task; another
run parks. The signal hits whichever process makes the call: the run, its guardian, a worker. What it has begun is
written into files, so that a second beginning is seen.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from boundaries import calls_of, kill_at, until_killed
from crashkit import append, as_harness, event_fold, fork, lines, report, wait_for

from liteflow import AlreadyDecided, Call, Dag, DagRun, Repeat, Task, Waiting, current_context
from liteflow.state.parking import ParkedUntil
from liteflow.state.write_batch import WriteBatch
from liteflow.work import Poll

CALLS = "pwrite64,fdatasync,fsync,ftruncate,rename,unlink"
RUN = "r"
DB = "state.db"
ITERATIONS = 3
_POLLS = 2


def begin() -> Waiting:
    """Begin something outside the process tree."""
    append("begun", "x")
    return Waiting({"job": 7}, 0.0, "job 7")


def look_at_job() -> Any:
    assert current_context().handle == {"job": 7}
    append("polls", "x")
    return Waiting(None, 0.0) if len(lines("polls")) < _POLLS else 7


def decide() -> None:
    """Decide as a person does; the decision is acknowledged when this returns."""
    try:
        DagRun.load(DB, RUN).approve("ok", by="ann")
    except AlreadyDecided:
        return  # this hook runs once more, because its process was killed after it had decided
    append("acknowledged", "x")


def iterate() -> int:
    return current_context().iteration


def waiting() -> None:
    """Run the dag with the waits to its end."""
    _waiting_dag().run(4, "process", run_id=RUN)


def _waiting_dag() -> Dag:
    dag = Dag("waits", DB)
    body = Call(begin, lane="process", poll=Poll(func=look_at_job))
    dag.add_task(Task("job", body=body))
    dag.approval("Deploy", "ok", on_wait=decide)
    dag.task(iterate, task_id="again", repeat=Repeat(until=lambda value: value >= ITERATIONS, max=10))
    return dag


def _parking_dag() -> Dag:
    dag = Dag("parks", DB)
    dag.sensor(_is_there, "ready", every=3600.0)
    return dag


def _is_there() -> Any:
    from liteflow import NOT_YET

    return 1 if os.path.exists("there") else NOT_YET


def parking() -> None:
    """Run a dag until it parks."""
    _parking_dag().run(4, "process", run_id=RUN, park=True)


def parking_with_early_wakes() -> None:
    """Run a dag until it parks, where the request to wake it is committed before the end of the run, not with it."""

    def park(_: WriteBatch, wake_at: float | None) -> None:
        with contextlib.closing(sqlite3.connect(DB)) as connection, connection:
            ParkedUntil(wake_at).write(connection, RUN, time.time())

    WriteBatch.park = park  # type: ignore[method-assign]
    parking()


ACTIONS: Mapping[str, Callable[[], None]] = {"wait": waiting, "park": parking}
#: With a defence less: `forget_wait` changes the file between the kill and the resume.
CONTROLS: Mapping[str, Mapping[str, Callable[[], None]]] = {
    "forget_wait": {"wait": waiting},
    "early_wake": {"park": parking_with_early_wakes},
}


class Stored:
    """What the state file holds, read by plain SQL."""

    def __init__(self) -> None:
        self.run: tuple[str, int | None] | None = None
        self.attempts: dict[str, list[str]] = {}
        self.waits = set[str]()
        self.wakes = self.answers = 0
        if not os.path.exists(DB):
            return
        connection = sqlite3.connect(DB)
        try:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                return
            self.run = connection.execute("SELECT status, owner_pid FROM liteflow_dag_runs").fetchone()
            sql = "SELECT task_id, status FROM liteflow_attempts ORDER BY attempt"
            for task_id, status in connection.execute(sql):
                self.attempts.setdefault(task_id, []).append(status)
            sql = (
                "SELECT task_id, started_at FROM liteflow_task_instances WHERE status='WAITING' AND handle IS NOT NULL"
            )
            self.waits = dict(connection.execute(sql))
            sql = "SELECT count(*) FROM liteflow_requests WHERE action=?"
            (self.answers,) = connection.execute(sql, ("answer",)).fetchone()
            (self.wakes,) = connection.execute(f"{sql} AND handled_at IS NULL", ("wake",)).fetchone()
        finally:
            connection.close()


def _change(sql: str) -> None:
    connection = sqlite3.connect(DB)
    with connection:
        connection.execute(sql)
    connection.close()


def forget_waits() -> None:
    """Change the file into that of an engine for which an attempt that waits is one that runs."""
    _change("UPDATE liteflow_task_instances SET status='RUNNING', handle=NULL WHERE status='WAITING'")


def finish(action: str, *, forgets: bool) -> None:
    """Resume the run."""
    if forgets:
        forget_waits()
    dag = _waiting_dag() if action == "wait" else _parking_dag()
    if action == "park":
        append("there", "")
        _change("UPDATE liteflow_task_instances SET wake_at=1 WHERE wake_at IS NOT NULL")
    run = dag.resume(RUN, mode="process")
    assert run.status == "SUCCESS", run.reason


def strike(call: str, number: int, *, action: str, counts: Counter[str], control: str | None) -> int | None:
    """Kill a run at a call, and compare what is stored then with what is there in the end. Returns its exit code."""
    _restore()
    code = kill_at(CONTROLS.get(control or "", ACTIONS)[action], call, number)
    check(action, code, counts, forgets=control == "forget_wait")
    return code


def check(action: str, code: int | None, counts: Counter[str], *, forgets: bool) -> None:
    """Compare what is stored after the kill with what is there in the end."""
    counts["kills" if code == -9 else "survived"] += 1
    before, begun = Stored(), len(lines("begun")) if os.path.exists("begun") else 0
    if before.run is None:
        counts["nothing"] += 1
        return
    if action == "park":
        counts["unparked"] += (before.run[0] == "INTERRUPTED") != (before.wakes == 1)
    if before.run[0] != "SUCCESS":
        counts["crashed"] += wait_for(fork(lambda: finish(action, forgets=forgets))) != 0
    after = Stored()
    counts["unfolded"] += len(event_fold.differences(DB))
    counts["waking"] += after.wakes
    if action == "park":
        counts["twice"] += "ready" in before.waits and len(after.attempts["ready"]) != 1
        return
    begun_again = len(lines("begun")) - begun
    counts["again"] += "job" in before.waits and begun_again > 0
    counts["again"] += begun_again > 1 or after.attempts["job"].count("SUCCESS") != 1
    counts["decisions"] += after.answers != 1 or after.attempts["ok"].count("SUCCESS") != 1
    repeated = [status for status in after.attempts["again"] if status != "LOST"]
    counts["iterations"] += repeated != ["REPEATED"] * (ITERATIONS - 1) + ["SUCCESS"]


DEFECTS = ("unparked", "unfolded", "waking", "twice", "again", "decisions", "iterations", "crashed")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--points", type=int, default=0, help="how many of each action; 0: all")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", choices=list(ACTIONS))
    parser.add_argument("--control", choices=list(CONTROLS))
    options = parser.parse_args()
    began, total = time.monotonic(), 0
    counts: Counter[str] = Counter()
    os.chdir(options.folder)
    with as_harness(limit_s=1800):
        for action, act in CONTROLS.get(options.control, ACTIONS).items():
            if options.only not in (None, action):
                continue
            _restore()
            points, count = calls_of(act, CALLS, options.points, random.Random(options.seed))
            total += count
            for call, number in points:
                until_killed(partial(strike, action=action, counts=counts, control=options.control), call, number)
    kinds = ("kills", "survived", "nothing", *DEFECTS)
    report(**{kind: counts[kind] for kind in kinds}, worst_of=total, worst_seconds=time.monotonic() - began)


def _restore() -> None:
    os.makedirs("work", exist_ok=True) if os.path.basename(os.getcwd()) != "work" else os.chdir("..")
    shutil.rmtree("work", ignore_errors=True)
    os.mkdir("work")
    os.chdir("work")


if __name__ == "__main__":
    main()
