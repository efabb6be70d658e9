"""Harness of R20: a retry, a clear, a mark and a fork are killed at the entry of each of their changes of the disk.

    python tests/crash/rerun_kill.py FOLDER --points 60 --seed 7 [--only clear] [--control half_set]

After each kill, from outside: either nothing was asked for, or the whole set is stored. A resume then runs exactly that
set. No attempt that has ended is changed, and the events are those of the rows.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

from boundaries import calls_of, kill_at, quietly, until_killed
from crashkit import Row, as_harness, await_none, descendants, event_fold, fork, lines, report, same, wait_for
from kill import half_set, nothing_settled
from waiting import ITERATIONS, add_waits

import liteflow.values.payload
from liteflow import Dag

CALLS = "pwrite64,fdatasync,fsync,ftruncate,rename,unlink,link"
RUN = "r"
DB = "state.db"
#: what a retry, a clear or a fork from `b` runs again
SET = {("b", -1), ("m", -1), ("m", 0), ("m", 1), ("m", 2), ("c", -1)}
SET |= {(task, -1) for task in ("g", "g.wait", "g.last", "loop", "after")}
#: what has no attempts: a mapped task as a whole, and a group
WHOLES = {("m", -1), ("g", -1)}
MARKED = {("d", -1), ("e", -1)}


def dag() -> Dag:
    """Tasks a -> b -> m (mapped) -> c, and a -> d -> e, where d fails; after b a wait in a group, and a repetition."""
    with Dag("flow", DB) as made:
        a = made.task(lambda: "x" * 3000, task_id="a")
        b = made.task(lambda a: a, task_id="b", a=a)
        m = made.partial(lambda item, b: [item, b], task_id="m", b=b).expand(item=[1, 2, 3])
        made.task(lambda m: len(m), task_id="c", m=m)
        d = made.task(lambda: 1 // 0, task_id="d")
        a >> d >> made.task(lambda: 1, task_id="e")
        add_waits(made, {"b": b}, no_note, ("b", "b"))
    return made


def no_note(task: str) -> None:
    """Leave no line: here the stored attempts count."""


def retry() -> None:
    dag().retry(RUN, "b", mode="inline")


def clear() -> None:
    dag().clear(RUN, "b")


def mark() -> None:
    dag().mark(RUN, "d", "success", values={"return_value": 7})


def make_fork() -> None:
    dag().fork(RUN, "b", new_run_id="forked", mode="inline")


ACTIONS: Mapping[str, Callable[[], None]] = {"retry": retry, "clear": clear, "mark": mark, "fork": make_fork}


CONTROLS: Mapping[str, Callable[[], None]] = {"half_set": half_set, "nothing_settled": nothing_settled}


class Stored:
    """What the state file holds, read by plain SQL."""

    def __init__(self, run_id: str = RUN) -> None:
        connection = sqlite3.connect(DB)
        self.intact = connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        sql = "SELECT task_id, map_index, attempt, status, ended_at, round FROM liteflow_attempts WHERE run_id=?"
        self.attempts = set(connection.execute(sql, (run_id,)))
        sql = "SELECT seq, task_id, map_index, status FROM liteflow_events WHERE run_id=? AND task_id IS NOT NULL"
        self.events = connection.execute(sql, (run_id,)).fetchall()
        sql = "SELECT task_id, map_index, status FROM liteflow_task_instances WHERE run_id=?"
        self.statuses = {(task, index): status for task, index, status in connection.execute(sql, (run_id,))}
        row = connection.execute("SELECT status FROM liteflow_dag_runs WHERE run_id=?", (run_id,)).fetchone()
        self.run = None if row is None else row[0]
        connection.close()

    def changed_since(self, before: Stored) -> set[tuple[str, int]]:
        """Return the instances with events that were not there before."""
        last = max((event[0] for event in before.events), default=0)
        return {(task, index) for seq, task, index, _ in self.events if seq > last}


def look(action: str, before: Stored, counts: Counter[str]) -> bool:
    """Compare the file with what it was. Return whether the action has happened."""
    now = Stored()
    counts["corrupt"] += not now.intact
    counts["rewritten"] += not before.attempts <= now.attempts
    counts["unfolded"] += len(event_fold.differences(DB))
    if action == "fork":
        fork_of = Stored("forked")
        counts["half"] += now.statuses != before.statuses
        counts["half"] += fork_of.run is not None and fork_of.statuses.keys() < before.statuses.keys() - SET
        counts["half"] += fork_of.run is not None and fork_of.statuses["a", -1] != "SUCCESS"
        return fork_of.run is not None
    changed, whole = now.changed_since(before), MARKED if action == "mark" else SET
    counts["half"] += bool(changed) and not whole <= changed
    counts["half"] += not changed and now.statuses != before.statuses
    counts["others"] += bool(changed - whole)
    return bool(changed)


def finish(action: str) -> None:
    """Do what is left: the same set, by a resume."""
    run = dag().resume("forked" if action == "fork" else RUN, mode="inline")
    assert run.status == ("SUCCESS" if action == "mark" else "FAILED"), run.status


def look_at_the_end(action: str, before: Stored, counts: Counter[str]) -> None:
    """Check what has run: each instance of the set, and nothing else."""
    now = Stored("forked" if action == "fork" else RUN)
    counts["unfolded"] += len(event_fold.differences(DB))
    ran = {(task, index) for task, index, *_ in now.attempts - (set() if action == "fork" else before.attempts)}
    if action == "mark":
        expected = {("e", -1)}
    else:
        expected = SET - WHOLES | ({("d", -1)} if action == "fork" else set())
    counts["others"] += bool(ran - expected)
    counts["left"] += bool(expected - ran)
    again = now.attempts - (set() if action == "fork" else before.attempts)
    done = sum(task == "loop" and status in ("REPEATED", "SUCCESS") for task, _, _, status, *_ in again)
    counts["left"] += ("loop", -1) in expected and done != ITERATIONS


def strike(call: str, number: int, *, action: str, counts: Counter[str]) -> int | None:
    """Kill an action at a call, and compare what is stored then and in the end. Returns its exit code."""
    _restore()
    before = Stored()
    code = kill_at(ACTIONS[action], call, number)
    counts["kills" if code == -9 else "not_reached"] += 1
    happened = look(action, before, counts)
    counts["happened" if happened else "nothing"] += 1
    if happened and Stored("forked" if action == "fork" else RUN).run not in ("SUCCESS", "FAILED"):
        counts["crashed"] += wait_for(fork(partial(finish, action))) != 0
    if happened:
        look_at_the_end(action, before, counts)
    return code


def retry_in_processes() -> None:
    dag().retry(RUN, "b", mode="process", max_workers=2)


def children_of(pid: int) -> list[Row]:
    return [row for row in descendants().values() if row.parent == pid]


def kill_guardians(number: int, chance: random.Random, counts: Counter[str]) -> None:
    """Kill the guardian of a retry at a random moment; its owner goes on or ends, and a resume finishes the set."""
    lives_s = 0.0
    for turn in range(number + 1):  # the first is not killed, and gives the time
        _restore()
        before = Stored()
        pid = fork(quietly(".", retry_in_processes))
        while not (guardians := children_of(pid)) and pid in descendants():
            time.sleep(0.001)
        began = time.monotonic()
        if turn:
            time.sleep(chance.uniform(0, lives_s))
            for guardian in filter(same, guardians):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(guardian.pid, signal.SIGKILL)
                    counts["guardians"] += 1
        code = wait_for(pid)
        assert turn or code == 0, lines("errors")[-5:]
        lives_s = lives_s or time.monotonic() - began
        counts["survivors"] += len(await_none(descendants)[1])
        happened = look("retry", before, counts)
        counts["happened" if happened else "nothing"] += bool(turn)
        if happened:
            if Stored().run not in ("SUCCESS", "FAILED"):
                counts["crashed"] += wait_for(fork(quietly(".", partial(finish, "retry")))) != 0
            look_at_the_end("retry", before, counts)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--points", type=int, default=0, help="how many of each action; 0: all")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", choices=list(ACTIONS))
    parser.add_argument("--control", choices=list(CONTROLS))
    parser.add_argument("--guardians", type=int, default=0, help="how many guardians to kill, in place of the points")
    options = parser.parse_args()
    began, total = time.monotonic(), 0
    counts: Counter[str] = Counter()
    liteflow.values.payload.SPILL_BYTES = 1000  # type: ignore[misc]
    os.chdir(options.folder)
    with as_harness(limit_s=1800):
        os.mkdir("template")
        os.chdir("template")
        assert wait_for(fork(lambda: _is_failed(dag().run(mode="inline", run_id=RUN).status))) == 0
        if options.control:
            CONTROLS[options.control]()
        if options.guardians:
            kill_guardians(options.guardians, random.Random(options.seed), counts)
        for action, act in ACTIONS.items() if not options.guardians else ():
            if options.only not in (None, action):
                continue
            _restore()
            points, count = calls_of(act, CALLS, options.points, random.Random(options.seed))
            total += count
            for call, number in points:
                until_killed(partial(strike, action=action, counts=counts), call, number)
    kinds = ("kills", "guardians", "not_reached", "happened", "nothing", *DEFECTS)
    report(**{kind: counts[kind] for kind in kinds}, worst_of=total, worst_seconds=time.monotonic() - began)


DEFECTS = ("corrupt", "rewritten", "unfolded", "half", "others", "left", "crashed", "survivors")


def _is_failed(status: str) -> None:
    assert status == "FAILED", status


def _restore() -> None:
    os.chdir("..")
    shutil.rmtree("work", ignore_errors=True)
    shutil.copytree("template", "work")
    os.chdir("work")


if __name__ == "__main__":
    main()
