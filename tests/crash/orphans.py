"""Harness of R3: runs of eight hostile tasks are stopped in every way there is; nothing may live on.

    python tests/crash/orphans.py FOLDER --count 26 --seed 7 [--control killpg] [--only command/cancel]

One run has one task of each kind, so each fault is eight trials. A task's second attempt ends at once: where the
engine rightly starts a task again (its guardian was killed), only what was there before has to be gone.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection
from functools import partial
from typing import Any

import escapees
from crashkit import (
    ENDS_WITHIN_S,
    HERE,
    Row,
    as_harness,
    await_none,
    command_line,
    descendants,
    end_descendants,
    fork,
    lines,
    marked,
    process_table,
    reap,
    report,
    same,
    wait_for,
)

from liteflow import Command, Dag, Task
from liteflow.context import current_context
from liteflow.definition.options import make_options
from liteflow.processes import tree
from liteflow.state.admin import request

GRACE_S = 0.2
TIMEOUT_S = 4.0  # in which a busy machine starts all
RUN = "r"
FORMS = ("command", "process", "thread")
FAULTS = (
    "cancel",
    "timeout",
    "SIGTERM",
    "kill_orchestrator",
    "kill_guardian",
    "kill_task",
    "kill_both",
    "kill_in_sweep",
)
COMBINATIONS = [
    (form, fault) for form in FORMS for fault in FAULTS if (form, fault) != ("thread", "timeout")
]  # a task with a timeout runs in a process whatever the mode


def in_worker(kind: str, marker: str, ready: str) -> None:
    attempt = current_context().attempt
    if attempt == 1:
        escapees.behave(kind, f"{marker}a{attempt}", ready)


def from_thread(kind: str, marker: str, ready: str) -> None:
    attempt = current_context().attempt
    if attempt == 1:
        words = [sys.executable, "-S", "-E", str(HERE / "escapees.py"), kind, f"{marker}a{attempt}", ready]
        subprocess.run(words, check=True)


def make_dag(db: str, form: str, fault: str, mark: str, ready: str) -> Dag:
    dag = Dag("hostile", db)
    for number, kind in enumerate(escapees.KINDS):
        marker = f"{mark}{number}"
        timeout = TIMEOUT_S if fault == "timeout" else None
        if form == "command":
            script = (
                f'[ "$LIGHTFLOW_ATTEMPT" = 1 ] || exit 0; '
                f"exec {sys.executable} -S -E {HERE / 'escapees.py'} {kind} {marker}a$LIGHTFLOW_ATTEMPT {ready}"
            )
            options = make_options({"kill_grace": GRACE_S, "timeout": timeout}, kind)
            dag.add_task(Task(kind, body=Command(("/bin/sh", "-c", script)), options=options))
        else:
            work = partial(in_worker if form == "process" else from_thread, kind, marker, ready)
            dag.task(work, kind, kill_grace=GRACE_S, timeout=timeout)
    return dag


def begin(db: str, form: str, fault: str, mark: str, ready: str, control: str | None, *, resume: bool = False) -> int:
    """Start the orchestrator: the program itself for the tasks in threads, else a fork of this one."""

    def child() -> None:
        if control is not None:
            tree.sweep = lambda *_, **__: tree.Swept(killed=0)
        if form == "thread":
            os.environ["HOSTILE"] = " ".join((db, form, fault, mark, ready))
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 1)
            script = str(HERE / "orphans_flow.py")
            what = ["resume", script] if resume else ["run", script, "--run-id", RUN]
            words = [sys.executable, "-m", "lightflow", *what, "--db", db, "--mode", "thread", "-j", "8", "-q"]
            os.execv(sys.executable, words)
        dag = make_dag(db, form, fault, mark, ready)
        mode = "process"
        if resume:
            dag.resume(RUN, max_workers=8, raise_signals=False)
        else:
            dag.run(8, mode, run_id=RUN, raise_signals=False)

    return fork(child)


def await_ready(ready: str, limit_s: float) -> dict[str, int]:
    """Wait until every process has taken its place. Returns the main process of each kind."""
    give_up = time.monotonic() + limit_s
    while True:
        shown_lines = [line.split() for line in lines(ready)]
        leaves = Counter(kind for what, kind, _ in shown_lines if what == "leaf")
        if all(leaves[kind] >= count for kind, count in escapees.KINDS.items()) or time.monotonic() > give_up:
            return {kind: int(pid) for what, kind, pid in shown_lines if what == "main"}
        time.sleep(0.005)


def guardian_of(orchestrator: int, mark: str) -> int:
    """The orchestrator's child that is no task."""
    table = process_table()
    for row in table.values():
        if row.parent == orchestrator and mark not in row.name and mark not in command_line(row.pid):
            return row.pid
    below = [(row, command_line(row.pid)) for row in table.values() if row.parent == orchestrator]
    ended = wait_for(orchestrator, 0.0)
    raise AssertionError(f"there is no guardian: the orchestrator ended with {ended}, its children are {below}")


def is_first_attempt(row: Row, mark: str) -> bool:
    return "a1" in f"{row.name} {command_line(row.pid)}".split(mark, 1)[-1][:4]


def kill(*pids: int, number: int = signal.SIGKILL) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def await_stopped(pids: Collection[int], limit_s: float = 10.0) -> None:
    """Wait until one of these processes is stopped, or all are gone."""
    give_up = time.monotonic() + limit_s
    while time.monotonic() < give_up:
        rows = [tree.process(pid) for pid in pids]
        if any(row is not None and row.state == "T" for row in rows) or not any(rows):
            return


def last_start(db: str) -> float:
    connection = sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=10)
    try:
        return float(connection.execute("SELECT max(started_at) FROM liteflow_task_instances").fetchone()[0])
    finally:
        connection.close()


def owner_of(db: str) -> tuple[int, int]:
    connection = sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=10)
    try:
        epoch, pid = connection.execute("SELECT epoch, owner_pid FROM liteflow_dag_runs").fetchone()
    finally:
        connection.close()
    return epoch, pid


class Trials:
    def __init__(self, folder: str, control: str | None) -> None:
        self._folder, self._control = folder, control
        self.trials = self.ready = self.survivors = 0
        self.took_s: list[float] = []  # after the grace, until all were gone
        self.worst_where = ""
        self.leaky: set[str] = set()
        self.notes: list[str] = []

    def run(self, number: int, form: str, fault: str) -> None:
        """One run of eight hostile tasks, and one fault."""
        mark = f"lf{os.urandom(3).hex()}"
        db, ready = f"{self._folder}/{number}.db", f"{self._folder}/{number}.ready"
        orchestrator = begin(db, form, fault, mark, ready, self._control)
        mains = await_ready(ready, TIMEOUT_S if fault == "timeout" else 120.0)
        self.trials += len(escapees.KINDS)
        self.ready += len(mains)
        # Where the run goes on, its guardian may live; in all other trials it is one of those that must end.
        needed = ("kill_guardian", "kill_task", "kill_both", "kill_in_sweep")
        guardian = guardian_of(orchestrator, mark) if fault in needed else 0
        old = [row for pid, row in descendants().items() if pid not in (orchestrator, guardian)]
        ended_by_us = fault in ("kill_guardian", "kill_task")  # then the orchestrator goes on to its end

        def left() -> list[Row]:
            result = {row.pid: row for row in old if same(row)}
            result |= {pid: row for pid, row in marked(mark).items() if is_first_attempt(row, mark)}
            if not ended_by_us:
                result |= {pid: row for pid, row in descendants().items() if pid != orchestrator}
            return list(result.values())

        due = self._strike(fault, db, orchestrator, guardian, mains)
        if fault == "kill_both":
            wait_for(orchestrator)
            dead = owner_of(db)
            # Nobody is there to see it. The next owner's first act is to end what was left.
            orchestrator = begin(db, form, fault, mark, ready, self._control, resume=True)
            give_up = time.monotonic() + 120
            while owner_of(db) == dead and time.monotonic() < give_up:  # the program has to start first
                time.sleep(0.002)
            due = time.monotonic()
        early = due - time.monotonic()
        if early > 0:
            time.sleep(early)
        _, rest = await_none(left, 1.0 if self._control else ENDS_WITHIN_S)
        took = time.monotonic() - due
        if not rest:
            if took > max(self.took_s, default=0.0):
                self.worst_where = f"{form}/{fault}"
            self.took_s.append(took)
        for row in rest:
            self.survivors += 1
            text = f"{row.name} {command_line(row.pid)}"
            kind = text.split(mark, 1)[1][:1] if mark in text else ""
            self.leaky.add(list(escapees.KINDS)[int(kind)] if kind.isdigit() else "unmarked")
            if len(self.notes) < 20:
                self.notes.append(f"{form}/{fault}: {row} {text}")
        if self._control is None and not rest:
            code = wait_for(orchestrator, 120.0) if fault != "kill_orchestrator" else 0
            if code is None:
                self.notes.append(f"{form}/{fault}: the orchestrator did not end")
                self.survivors += 1
            _, late = await_none(descendants)
            self.survivors += len(late)
            self.notes += [f"{form}/{fault}, at the end: {row} {command_line(row.pid)}" for row in late.values()]
        end_descendants()

    def _strike(self, fault: str, db: str, orchestrator: int, guardian: int, mains: dict[str, int]) -> float:
        """Do it. Returns the monotonic second from which on nothing has a right to live."""
        if fault == "cancel":
            request(db, RUN, "cancel")
        elif fault == "timeout":
            return time.monotonic() + last_start(db) + TIMEOUT_S + GRACE_S - time.time()
        elif fault == "SIGTERM":
            kill(orchestrator, number=signal.SIGTERM)
        elif fault == "kill_orchestrator":
            kill(orchestrator)
            wait_for(orchestrator)
            return time.monotonic()
        elif fault == "kill_guardian":
            kill(guardian)
            return time.monotonic()
        elif fault == "kill_task":
            kill(*mains.values())
            return time.monotonic()
        elif fault == "kill_in_sweep":
            # When all that is to be killed stands still: what is stopped then would never end by itself.
            request(db, RUN, "cancel")
            await_stopped(mains.values())
            kill(orchestrator, guardian)
            return time.monotonic()
        else:
            kill(orchestrator, guardian, number=signal.SIGSTOP)
            kill(orchestrator, guardian)
            return time.monotonic()
        return time.monotonic() + GRACE_S


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--count", type=int, default=20, help="faults; each is eight trials")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--shard", default="0/1")
    parser.add_argument("--control", choices=("killpg",))
    parser.add_argument("--only", help="FORM/FAULT")
    given = parser.parse_args()
    began = time.monotonic()
    chance = random.Random(given.seed // 1000)  # the shards of one seed share the list and take their own part
    plan: list[tuple[str, str]] = []
    while len(plan) < given.count:
        plan += chance.sample(COMBINATIONS, len(COMBINATIONS))
    if given.only:
        form, fault = given.only.split("/")
        plan = [(form, fault)] * given.count
    shard, shards = map(int, given.shard.split("/"))
    with as_harness(limit_s=600 + 6 * given.count):
        trials = Trials(given.folder, given.control)
        for number, (form, fault) in enumerate(plan[: given.count]):
            if number % shards == shard:
                try:
                    trials.run(number, form, fault)
                except Exception as error:
                    error.add_note(f"in trial {number}: {form}/{fault}")
                    raise
                reap()
    fields: dict[str, Any] = {
        "faults": trials.trials // len(escapees.KINDS),
        "trials": trials.trials,
        "ready": trials.ready,
        "survivors": trials.survivors,
        "leaky": sorted(trials.leaky),
        "took_ms": [round(took_s * 1000) for took_s in trials.took_s],
        "worst": [round(max(trials.took_s, default=0.0) * 1000), trials.worst_where],
        "notes": trials.notes,
        "worst_seconds": time.monotonic() - began,
    }
    report(**fields)


if __name__ == "__main__":
    main()
