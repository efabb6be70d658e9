"""Harness of R10: who owns a run, when several want it, when it was taken away, and when its owner has just died.

python tests/crash/owners.py FOLDER race --count 50 --seed 7 [--control no_lock]
python tests/crash/owners.py FOLDER fence --count 10 --seed 7 [--control no_fence]
python tests/crash/owners.py FOLDER share|sweep --count 10 --seed 7
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import re
import select
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from crashkit import (
    Faults,
    append,
    as_harness,
    await_none,
    descendants,
    end_descendants,
    fork,
    lines,
    read_state,
    report,
    wait_for,
)

import liteflow.state.locks
import liteflow.state.store
from liteflow import Command, Dag, Task
from liteflow.errors import RunOwned, StaleRun
from liteflow.state.history import History

RUN = "r"
#: How long an answer may take: on a busy machine, and where a control takes care that some never comes.
_PATIENCE_S, _CONTROL_PATIENCE_S = 60.0, 3.0


# -- controls ------------------------------------------------------------------------------------------------------


def no_lock() -> None:
    """Every lock is granted."""
    liteflow.state.locks.LockFile.acquire = lambda self, byte: True  # type: ignore[method-assign]


def no_fence() -> None:
    """The epoch is read afresh before each write, so that it never differs."""
    store = liteflow.state.store.Store
    write = store._write

    def unfenced(self: Any) -> None:
        row = self._connection.execute("SELECT epoch FROM liteflow_dag_runs WHERE run_id=?", (self.run_id,)).fetchone()
        self._epoch = row[0]
        write(self)

    store._write = unfenced  # type: ignore[method-assign]


CONTROLS: dict[str, Callable[[], None]] = {"no_lock": no_lock, "no_fence": no_fence}


def until(condition: Callable[[], bool], limit_s: float = 120.0) -> bool:
    give_up = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.001)
    return True


# -- races -----------------------------------------------------------------------------------------------------------


def _quick(trail: str, name: str) -> None:
    append(trail, f"{name} {os.getpid()}")


def _hold(trail: str, go: str) -> None:
    """Runs as long as the race does, so that whoever comes too late is refused and not just told that all is done."""
    append(trail, f"hold {os.getpid()}")
    until(lambda: os.path.exists(go))


def race_dag(db: str, trail: str, go: str) -> Dag:
    dag = Dag("flow", db)
    first = dag.task(partial(_quick, trail, "first"), "first")
    hold = dag.task(partial(_hold, trail, go), "hold")
    last = dag.task(partial(_quick, trail, "last"), "last")
    first >> hold >> last
    return dag


def dead_run(folder: str) -> str:
    """A state file with a run whose owner was killed after its first task."""
    db, trail = f"{folder}/dead.db", f"{folder}/dead.trail"
    pid = fork(lambda: race_dag(db, trail, f"{folder}/never").run(mode="inline", run_id=RUN))
    assert until(lambda: any(line.startswith("hold") for line in lines(trail)))
    os.kill(pid, signal.SIGKILL)
    wait_for(pid)
    return db


def copy_of(db: str, place: str) -> str:
    for suffix in ("", "-wal"):
        if os.path.exists(db + suffix):
            shutil.copy(db + suffix, f"{place}.db{suffix}")
    return f"{place}.db"


def contender(
    db: str, trail: str, go: str, gate: tuple[int, int], answers: int, cli: bool, control: str | None
) -> None:
    os.close(gate[1])
    if control is not None:
        CONTROLS[control]()
    if cli:
        os.environ["RACE"] = " ".join((db, trail, go))
        log = os.open(f"{trail}.err", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
    dag = race_dag(db, trail, go)
    os.read(gate[0], 1)  # opens for all at once
    if cli:
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "owners_flow.py")
        os.execv(sys.executable, [sys.executable, "-m", "lightflow", "resume", script, "--db", db, "--mode", "thread"])
    try:
        status = dag.resume(RUN, mode="inline").status
        answer = f"{status} {os.getpid()} 0"
    except RunOwned as error:
        named = re.search(r"owned by process (\d+)", str(error))
        answer = f"owned {os.getpid()} {named[1] if named else 0}"
    os.write(answers, f"{answer}\n".encode())


def race(folder: str, count: int, seed: int, control: str | None, result: Faults) -> None:
    """Two to eight processes resume one dead run at once: exactly one gets it, the others are told whose it is."""
    chance, template = random.Random(seed), dead_run(folder)
    patience_s = _CONTROL_PATIENCE_S if control else _PATIENCE_S
    for number in range(count):
        place = f"{folder}/race{number}"
        db, trail, go = copy_of(template, place), f"{place}.trail", f"{place}.go"
        cli = number % 20 == 19
        gate = os.pipe()
        answers_read, answers_write = os.pipe()
        pids = [
            fork(partial(contender, db, trail, go, gate, answers_write, cli, control))
            for _ in range(3 if cli else chance.randint(2, 8))
        ]
        os.close(answers_write)
        time.sleep(0.005)
        os.close(gate[1])
        os.close(gate[0])
        refused = _refusals(answers_read, pids, cli, trail, patience_s)
        until(lambda trail=trail: any(line.startswith("hold") for line in lines(trail)), patience_s)  # type: ignore[misc]
        holders = [int(line.split()[1]) for line in lines(trail) if line.startswith("hold")]
        if len(holders) != 1:
            result.fault("owners", f"round {number}: {len(pids)} contenders, {len(holders)} owners")
        if len(refused) != len(pids) - 1:
            result.fault("refusals", f"round {number}: {len(pids)} contenders, {len(refused)} refused: {refused}")
        if any(named not in holders for named in refused):
            result.fault("misnamed", f"round {number}: the owner is {holders}, they were told {refused}")
        append(go, "")
        codes = [wait_for(pid) for pid in pids if pid not in _codes]
        codes += [_codes.pop(pid) for pid in pids if pid in _codes]
        os.close(answers_read)
        if control is None:
            expected = [0] + [4] * (len(pids) - 1) if cli else [0] * len(pids)
            if sorted(code or 0 for code in codes) != expected or None in codes:
                result.fault("codes", f"round {number}: exit codes {codes} {lines(f'{trail}.err')[-3:]}")
            words = [line.split()[0] for line in lines(trail)]
            if words != ["hold", "last"] or read_state(db, RUN).run != "SUCCESS":
                result.fault("story", f"round {number}: {words} {read_state(db, RUN)}")
        end_descendants()
        result.counts["rounds"] += 1


_codes: dict[int, int | None] = {}


def _refusals(answers: int, pids: list[int], cli: bool, trail: str, patience_s: float) -> list[int]:
    """Whom the refused were told to be the owner; waits until all but one have answered."""
    if cli:
        give_up = time.monotonic() + patience_s
        while len([pid for pid in pids if pid in _codes]) < len(pids) - 1 and time.monotonic() < give_up:
            for pid in pids:
                if pid not in _codes and (code := wait_for(pid, 0.01)) is not None:
                    _codes[pid] = code
        return [int(result[1]) for line in lines(f"{trail}.err") if (result := re.search(r"by process (\d+)", line))]
    data, poll = b"", select.poll()
    poll.register(answers, select.POLLIN)
    while data.count(b"\n") < len(pids) - 1 and poll.poll(1000 * patience_s):
        chunk = os.read(answers, 65536)
        if not chunk:
            break
        data += chunk
    return [int(line.split()[2]) for line in data.decode().splitlines() if line.startswith("owned")]


# -- fences ----------------------------------------------------------------------------------------------------------


def fence_dag(db: str, trail: str) -> Dag:
    dag = Dag("flow", db)
    loud = f"echo $$ >> {trail}; setsid sleep 60 & exec sleep 60"
    dag.add_task(Task("loud", body=Command(("/bin/sh", "-c", loud))))
    before: Task | None = None
    for number in range(400):
        task = dag.add_task(Task(f"c{number}", body=Command(("/bin/sh", "-c", "sleep 0.002"))))
        if before is not None:
            before >> task
        before = task
    return dag


def fenced_owner(db: str, trail: str, control: str | None) -> None:
    if control is not None:
        CONTROLS[control]()
    try:
        fence_dag(db, trail).run(2, run_id=RUN)
    except StaleRun:
        os._exit(StaleRun.exit_code)


def dump(db: str) -> list[str]:
    connection = sqlite3.connect(db, timeout=10)
    try:
        return list(connection.iterdump())
    finally:
        connection.close()


def fence(folder: str, count: int, seed: int, control: str | None, result: Faults) -> None:
    """The owner is stopped, its run taken over, and it is let go: it writes nothing more and ends its tasks."""
    chance = random.Random(seed)
    for number in range(count):
        db, trail = f"{folder}/fence{number}.db", f"{folder}/fence{number}.trail"
        owner = fork(partial(fenced_owner, db, trail, control))
        assert until(lambda db=db: len(read_state(db, RUN).succeeded) >= 2)  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.02))
        os.kill(owner, signal.SIGSTOP)
        connection = sqlite3.connect(db, timeout=10, isolation_level=None)
        try:
            # The owner may have been stopped inside a transaction: then it is let go for a moment, a longer one each
            # time, because a busy machine may give it none of a short one.
            pause_s = 0.003
            while True:
                try:
                    connection.execute("PRAGMA busy_timeout=50")
                    connection.execute("UPDATE liteflow_dag_runs SET epoch = epoch + 1 WHERE run_id=?", (RUN,))
                    break
                except sqlite3.OperationalError:
                    os.kill(owner, signal.SIGCONT)
                    time.sleep(pause_s)
                    pause_s *= 1.3
                    os.kill(owner, signal.SIGSTOP)
        finally:
            connection.close()
        before = dump(db)
        os.kill(owner, signal.SIGCONT)
        code = wait_for(owner, 2.0 if control else _PATIENCE_S)
        if code != StaleRun.exit_code:
            result.fault("unfenced", f"round {number}: the owner ended with {code}")
        if dump(db) != before:
            result.fault("written", f"round {number}: the owner wrote after its run was taken over")
        _, left = await_none(descendants) if control is None else (0.0, ())
        if left:
            result.fault("survivors", f"round {number}: {left}")
        end_descendants()
        result.counts["rounds"] += 1


# -- neighbours ------------------------------------------------------------------------------------------------------


def share(folder: str, count: int, seed: int, control: str | None, result: Faults) -> None:
    """Two orchestrators with different runs in one new file both finish."""
    for number in range(count):
        db = f"{folder}/share{number}.db"

        def child(name: str, db: str = db) -> None:
            dag = Dag(name, db)
            tasks = [dag.task(os.getpid, f"t{place}") for place in range(60)]
            for entry, two in itertools.pairwise(tasks):
                entry >> two
            assert dag.run(mode="thread", run_id=name).status == "SUCCESS"

        pids = [fork(partial(child, name)) for name in ("left", "right")]
        codes = [wait_for(pid, 60.0) for pid in pids]
        states = [read_state(db, name) for name in ("left", "right")]
        if codes != [0, 0] or any(state.run != "SUCCESS" or len(state.succeeded) != 60 for state in states):
            result.fault("unfinished", f"round {number}: {codes} {[state.run for state in states]}")
        result.counts["rounds"] += 1


# -- a resume while the dead owner's guardian still sweeps -------------------------------------------------------------


def sweep(folder: str, count: int, seed: int, control: str | None, result: Faults) -> None:
    """The orchestrator is killed and its guardian is slow: a resume waits for it, instead of naming a dead owner."""
    chance = random.Random(seed)
    for number in range(count):
        db, trail, go = (f"{folder}/sweep{number}.{end}" for end in ("db", "trail", "go"))

        def dag(db: str = db, trail: str = trail, go: str = go) -> Dag:
            made = Dag("flow", db)
            wait = f"echo hold >> {trail}; while [ ! -e {go} ]; do sleep 0.01; done"
            made.add_task(Task("hold", body=Command(("/bin/sh", "-c", wait))))
            return made

        owner = fork(lambda dag=dag: dag().run(run_id=RUN))  # type: ignore[misc]
        assert until(lambda trail=trail: bool(lines(trail)))  # type: ignore[misc]
        (guardian,) = [pid for pid, row in descendants().items() if row.parent == owner]
        os.kill(guardian, signal.SIGSTOP)  # a guardian on a busy machine
        os.kill(owner, signal.SIGKILL)
        wait_for(owner)
        append(go, "")
        next_owner = fork(lambda dag=dag: dag().resume(RUN))  # type: ignore[misc]
        time.sleep(chance.uniform(0.05, 0.3))
        os.kill(guardian, signal.SIGCONT)
        code = wait_for(next_owner, _PATIENCE_S)
        if code != 0:
            result.fault("refused", f"round {number}: the resume ended with {code}")
        with History(db) as history:
            if code == 0 and history.run(RUN).status != "SUCCESS":
                result.fault("story", f"round {number}: {history.run(RUN).status}")
        end_descendants()
        result.counts["rounds"] += 1


TRIALS = {"race": race, "fence": fence, "share": share, "sweep": sweep}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("what", choices=sorted(TRIALS))
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--control", choices=sorted(CONTROLS))
    given = parser.parse_args()
    began, result = time.monotonic(), Faults()
    with as_harness(limit_s=600 + 6 * given.count):
        TRIALS[given.what](given.folder, given.count, given.seed, given.control, result)
    kinds = ("rounds", "owners", "refusals", "misnamed", "codes", "story", "unfenced", "written", "survivors",
             "unfinished", "refused")  # fmt: skip
    fields = {kind: result.counts[kind] for kind in kinds}
    report(**fields, notes=result.notes, worst_seconds=time.monotonic() - began)


if __name__ == "__main__":
    main()
