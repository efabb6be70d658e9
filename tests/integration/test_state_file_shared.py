"""A state file whose process also runs other code: code that opens and closes it, other programs, and deleted logs.

POSIX locks, which SQLite uses, are lost when a process closes any descriptor of the file. A thread task or the program
around a run may do that at any time; nothing that was stored may be lost for it.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from liteflow import Dag
from liteflow.errors import StoreError
from liteflow.state.history import History
from liteflow.state.locks import LockFile

Start = Callable[..., "subprocess.Popen[str]"]

#: What a task or a program may do with the files of the state file: each drops SQLite's locks in its process.
TOUCHES: dict[str, str] = {
    "copies the file": "shutil.copy(db, db + '.copy')",
    "copies the log's index": "shutil.copy(db + '-shm', db + '.copy')",
    "copies all of its files": "[shutil.copy(db + end, db + '.copy') for end in ('', '-wal', '-shm')]",
    "opens and closes them": "[open(db + end, 'rb').close() for end in ('-shm', '-wal', '')]",
    "opens it to append": "open(db, 'ab').close()",
}

#: Another SQLite client: it would be the last one, if nobody held locks, and delete the write-ahead log.
LOOK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT count(*) FROM liteflow_dags").fetchone()
connection.close()
"""

SCRIPT = """
import os, shutil, signal, subprocess, sys
from liteflow import Dag
db, look, end, mode = sys.argv[1:5]
def touch():
    {touch}
def client():
    subprocess.run([sys.executable, look, db], check=True)
def last():
    if end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
with Dag("flow", db) as dag:
    chain = [dag.task(touch), dag.task(client)] + [dag.task(lambda: 1, task_id=f"t{{n}}") for n in range(5)]
    chain += [dag.task(touch, task_id="touch2"), dag.task(client, task_id="client2"), dag.task(last)]
    for above, below in zip(chain, chain[1:]):
        above >> below
print(dag.run(mode=mode, run_id="r1").status)
"""


@pytest.mark.parametrize("mode", ["thread", "inline"])
@pytest.mark.parametrize("end", ["killed", "ended"])
@pytest.mark.parametrize("touch", TOUCHES)
def test_a_task_that_touches_the_files_loses_nothing(
    start: Start, db: str, tmp_path: Path, touch: str, end: str, mode: str
) -> None:
    look = tmp_path / "look.py"
    look.write_text(LOOK)
    process = start(SCRIPT.format(touch=TOUCHES[touch]), db, str(look), end, mode)
    out, err = process.communicate(timeout=60)
    assert err == ""
    with History(db) as history:
        counts = history.counts("r1")
        if end == "killed":
            assert process.returncode == -signal.SIGKILL
            assert counts == {"SUCCESS": 9, "RUNNING": 1}
        else:
            assert out == "SUCCESS\n"
            assert counts == {"SUCCESS": 10}
            assert is_folded_up(db)
    assert check(db) == "ok"


def is_folded_up(db: str) -> bool:
    """Is all in the database file, as the last client leaves it? (One that only reads makes an empty log again.)"""
    return not os.path.exists(f"{db}-wal") or not os.path.getsize(f"{db}-wal")


def check(db: str) -> str:
    connection = sqlite3.connect(db)
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()


OTHER = """
import sys
from liteflow import Dag
db = sys.argv[1]
with Dag("other", db) as dag:
    for n in range(30):
        dag.task(lambda: 1, task_id=f"t{n}")
print(dag.run(mode="thread").status)
"""


def test_another_run_on_a_file_whose_locks_were_dropped_all_the_time(start: Start, db: str) -> None:
    """Some thread of the program copies the file again and again, while two runs write to it."""
    over = threading.Event()

    def copy() -> None:
        while not over.is_set():
            for end in ("", "-wal", "-shm"):
                try:
                    shutil.copy(db + end, db + ".copy")
                except FileNotFoundError:
                    continue

    copier = threading.Thread(target=copy)
    copier.start()
    try:
        others = [start(OTHER, db) for _ in range(2)]
        with Dag("flow", db) as dag:
            tasks = [dag.task(lambda: 1, task_id=f"t{n}") for n in range(200)]
            for above, below in itertools.pairwise(tasks):
                above >> below
        run = dag.run(mode="thread", log_dir=None)
        message = [process.communicate(timeout=60) for process in others]
    finally:
        over.set()
        copier.join()
    assert run.status == "SUCCESS"
    assert message == [("SUCCESS\n", "")] * 2
    with History(db) as history:
        assert history.counts(run.run_id) == {"SUCCESS": 200}
        assert [history.counts(each.run_id) for each in history.runs("other")] == [{"SUCCESS": 30}] * 2
    assert check(db) == "ok"


def test_a_run_that_has_ended_keeps_no_lock_in_a_child_that_was_forked_meanwhile(db: str) -> None:
    """A pool of processes, for example: the next client folds up the write-ahead log as ever."""
    read_end, write_end = os.pipe()
    children = []

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            os.close(write_end)
            os.read(read_end, 1)
            os._exit(0)
        children.append(pid)

    with Dag("flow", db) as dag:
        dag.task(fork)
    dag.run(mode="inline").raise_for_failure()
    try:
        assert is_folded_up(db)
    finally:
        os.close(write_end)
        os.close(read_end)
        for pid in children:
            os.waitpid(pid, 0)


# -- the other files of a state file, deleted or replaced ---------------------------------------------------------


def _delete(*ends: str) -> Callable[[str], None]:
    def act(db: str) -> None:
        for end in ends:
            os.unlink(db + end)

    return act


def _replace(end: str) -> Callable[[str], None]:
    def act(db: str) -> None:
        shutil.copy(db + end, db + ".new")
        os.replace(db + ".new", db + end)

    return act


GONE: dict[str, Callable[[str], None]] = {
    "log and index deleted": _delete("-wal", "-shm"),
    "log deleted": _delete("-wal"),
    "index deleted": _delete("-shm"),
    "log replaced": _replace("-wal"),
    "index replaced": _replace("-shm"),
    "all deleted": _delete("", "-wal", "-shm"),
}


@pytest.mark.parametrize("what", GONE)
def test_a_log_that_is_deleted_or_replaced_ends_the_run(db: str, trail: Any, what: str) -> None:
    def once() -> None:
        if not trail.words():
            Path(trail.path).write_text("gone")
            GONE[what](db)

    with Dag("flow", db) as dag:
        first = dag.task(lambda: 1, task_id="first")
        gone = dag.task(once, task_id="gone")
        first >> gone >> dag.task(lambda: 1, task_id="after")
    with pytest.raises(StoreError, match=r"state\.db.*was deleted, moved or replaced while a run used it"):
        dag.run(mode="inline", run_id="r1")
    if what in ("log and index deleted", "log deleted", "index deleted", "index replaced"):
        with History(db) as history:
            assert history.instance("r1", "first").status == "SUCCESS"  # type: ignore[union-attr]
            assert history.run("r1").status == "INTERRUPTED"
        assert dag.resume("r1", mode="inline").status == "SUCCESS"
        assert check(db) == "ok"


def test_a_log_that_is_deleted_while_a_task_runs_is_noticed_at_once(start: Start, db: str, trail: Any) -> None:
    source = """
import sys, time
from liteflow import Dag, StoreError
db, trail = sys.argv[1:3]
def wait():
    with open(trail, "a") as file:
        file.write("waiting\\n")
    time.sleep(600)
with Dag("flow", db) as dag:
    dag.task(lambda: 1, task_id="first") >> dag.task(wait)
try:
    dag.run(mode="process", run_id="r1")
except StoreError as error:
    print(error)
"""
    process = start(source, db, trail.path)
    trail.wait_for("waiting")
    os.unlink(f"{db}-wal")
    os.unlink(f"{db}-shm")
    out, _ = process.communicate(timeout=120)
    assert "state.db-wal: was deleted" in out
    with History(db) as history:
        assert history.counts("r1") == {"SUCCESS": 1, "RUNNING": 1}, "what was stored was rescued"


# -- who writes ----------------------------------------------------------------------------------------------------


def test_a_writer_waits_for_another_writer_and_gives_up_in_time(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from liteflow.state import state_file

    with Dag("flow", db) as dag:
        dag.task(lambda: 1, task_id="t")
    run = dag.run(mode="inline")
    other = LockFile(db)
    assert other.acquire(state_file.WRITE_LOCK)
    monkeypatch.setattr(state_file, "_BUSY_MS", 50)
    try:
        with pytest.raises(StoreError, match="locked by another program"):
            run.delete()
    finally:
        other.close()
    run.delete()


def test_a_child_that_was_forked_by_a_task_leaves_the_locks_of_its_parent_alone(
    start: Start, db: str, tmp_path: Path
) -> None:
    """It runs a dag of its own on the same file, and ends; then the parent's file is copied, and a client looks in."""
    source = """
import os, shutil, subprocess, sys
from liteflow import Dag
db, look = sys.argv[1:3]
def fork():
    pid = os.fork()
    if pid == 0:
        with Dag("inner", db) as inner:
            inner.task(lambda: 1, task_id="t")
        os._exit(0 if inner.run(mode="inline").status == "SUCCESS" else 1)
    assert os.waitpid(pid, 0)[1] == 0
def client():
    shutil.copy(db, db + ".copy")
    shutil.copy(db + "-shm", db + ".copy")
    subprocess.run([sys.executable, look, db], check=True)
with Dag("flow", db) as dag:
    dag.task(fork) >> dag.task(client) >> dag.task(lambda: 1, task_id="last")
print(dag.run(mode="inline", run_id="r1").status)
"""
    look = tmp_path / "look.py"
    look.write_text(LOOK)
    assert start(source, db, str(look)).communicate(timeout=60) == ("SUCCESS\n", "")
    with History(db) as history:
        assert history.counts("r1") == {"SUCCESS": 3}
        assert history.latest("inner").status == "SUCCESS"
    assert check(db) == "ok"
