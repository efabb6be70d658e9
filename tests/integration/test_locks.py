"""Ownership is a kernel lock: held by whoever lives, gone the moment the last holder is."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lightflow.service.doctor import run_checks
from liteflow import Dag, DagRun
from liteflow.errors import RunOwned, StoreError
from liteflow.processes.forks import passing_to_forks
from liteflow.state.deletion import delete_runs
from liteflow.state.history import History
from liteflow.state.locks import LockFile

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def open_locks(db: str) -> Iterator[Callable[..., LockFile]]:
    made: list[LockFile] = []

    def make(**options: Any) -> LockFile:
        made.append(LockFile(db, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


Locks = Callable[..., LockFile]


def test_a_byte_is_held_by_one_description(open_locks: Locks) -> None:
    first, second = open_locks(), open_locks()
    assert first.acquire(3)
    assert first.acquire(3), "one's own lock is no obstacle"
    assert not second.acquire(3)
    assert second.acquire(4), "other bytes are other locks"
    first.release(3)
    assert second.acquire(3)


def test_looking_takes_nothing(open_locks: Locks) -> None:
    owner, reader = open_locks(), open_locks(read_only=True)
    assert not reader.is_held(7)
    assert owner.acquire(7)
    assert reader.is_held(7)
    assert not owner.is_held(7), "another description, it says"
    owner.close()
    assert not reader.is_held(7)


def test_a_lock_can_be_waited_for(open_locks: Locks) -> None:
    entry, two = open_locks(), open_locks()
    entry.acquire(0)
    assert not two.acquire_within(0, 0.01)
    threading.Timer(0.05, entry.release, [0]).start()
    assert two.acquire_within(0, 30.0)


def test_closing_another_descriptor_of_the_file_drops_nothing(open_locks: Locks, db: str) -> None:
    """A POSIX lock would be lost here."""
    owner, reader = open_locks(), open_locks(read_only=True)
    owner.acquire(1)
    open(f"{db}.lock").close()
    LockFile(db).close()
    assert reader.is_held(1)


def fork(lock: LockFile, *, handed: bool) -> tuple[int, int]:
    """A child that lives until the descriptor that is returned with its pid is closed."""
    read_end, write_end = os.pipe()
    ready = os.eventfd(0)
    with passing_to_forks((lock.fd,) if handed else ()):
        pid = os.fork()
    if pid == 0:
        os.eventfd_write(ready, 1)
        os.close(write_end)
        os.read(read_end, 1)  # until the parent lets go
        os._exit(0)
    os.eventfd_read(ready)
    os.close(ready)
    os.close(read_end)
    return pid, write_end


@pytest.mark.parametrize("handed", [False, True])
def test_only_a_fork_that_is_handed_the_file_holds_its_locks(open_locks: Locks, *, handed: bool) -> None:
    owner, reader = open_locks(), open_locks(read_only=True)
    owner.acquire(1)
    pid, write_end = fork(owner, handed=handed)
    os.close(owner.detach())  # as when this process is killed
    assert reader.is_held(1) == handed, "while the guardian sweeps, the run is still owned"
    os.close(write_end)
    os.waitpid(pid, 0)
    assert not reader.is_held(1)


def test_closing_releases_what_a_copy_of_the_descriptor_would_hold(open_locks: Locks) -> None:
    owner, reader = open_locks(), open_locks(read_only=True)
    owner.acquire(1)
    pid, write_end = fork(owner, handed=True)
    owner.close()
    assert not reader.is_held(1)
    os.close(write_end)
    os.waitpid(pid, 0)


def test_a_reader_makes_no_lock_file(open_locks: Locks, db: str) -> None:
    reader = open_locks(read_only=True)
    assert not reader.is_held(1)
    assert not os.path.exists(f"{db}.lock")


def test_a_link_in_place_of_the_lock_file_is_not_followed(db: str, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    os.symlink(tmp_path / "precious", f"{db}.lock")
    with pytest.raises(StoreError, match=r"state\.db\.lock: cannot be opened"):
        LockFile(db)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such folder"):
        LockFile(str(tmp_path / "no" / "x.db"))


OWNER = """
import sys, time
from liteflow import Dag
db, trail, run_id = sys.argv[1:4]
def wait():
    open(trail, "a").write("waiting\\n") and None
    while True:
        time.sleep(0.01)
with Dag("flow", db) as dag:
    dag.task(wait)
dag.run(mode="thread", run_id=run_id)
""".replace('open(trail, "a").write("waiting\\n") and None', 'with open(trail, "a") as file: file.write("waiting\\n")')


def wait() -> int:
    return 1


def test_a_live_run_is_owned_and_a_dead_one_is_not(start: Start, db: str, trail: Any) -> None:
    process = start(OWNER, db, trail.path, "r1")
    trail.wait_for("waiting")
    with Dag("flow", db) as dag:
        dag.task(wait)
    with History(db) as history:
        assert history.run("r1").status == "RUNNING"
        for action in (
            lambda: dag.resume("r1", mode="inline"),
            lambda: Dag.delete_dag(db, "flow"),
            lambda: dag.runs()[0].delete(),
        ):
            with pytest.raises(RunOwned, match=rf"run r1 is owned by process {process.pid} "):
                action()
        process.kill()
        process.communicate()
        assert history.run("r1").status == "INTERRUPTED", "at once: no heartbeat has to grow old"
        assert dag.runs()[0].status == "INTERRUPTED"
    run = dag.resume("r1", mode="inline")
    assert run.status == "SUCCESS"
    run.delete()
    assert dag.runs() == []


def test_a_dead_run_can_be_deleted_at_once(start: Start, db: str, trail: Any) -> None:
    process = start(OWNER, db, trail.path, "r1")
    trail.wait_for("waiting")
    process.kill()
    process.communicate()
    assert Dag.delete_dag(db, "flow") == 1
    assert Dag.all_dags(db) == []


BUSY = """
import sys
from liteflow import Dag
db, name = sys.argv[1:3]
with Dag(name, db) as dag:
    tasks = [dag.task(lambda: 1, task_id=f"t{n}") for n in range(150)]
    for one, two in zip(tasks, tasks[1:]):
        one >> two
print(dag.run(mode="thread").status)
"""


def test_runs_of_several_processes_share_a_file(start: Start, db: str) -> None:
    """From nothing: they also race to make the schema. A reader looks on and is never refused."""
    processes = [start(BUSY, db, f"flow_{number}") for number in range(3)]
    while any(process.poll() is None for process in processes):
        if os.path.exists(db) and os.path.getsize(db) > 4096:
            with History(db) as history:
                for run in history.runs():
                    assert run.status in ("RUNNING", "SUCCESS")
                    assert len(history.instances(run.run_id)) == 150
    for process in processes:
        assert process.communicate() == ("SUCCESS\n", "")
    with History(db) as history:
        assert [history.counts(run.run_id) for run in history.runs()] == [{"SUCCESS": 150}] * 3


def test_a_link_to_the_state_file_leads_to_the_same_lock(tmp_path: Path) -> None:
    (tmp_path / "real.db").touch()
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    entry, other = LockFile(str(tmp_path / "real.db")), LockFile(str(tmp_path / "link.db"))
    try:
        assert entry.acquire(7)
        assert not other.acquire(7)
        assert other.is_held(7)
    finally:
        entry.close()
        other.close()


def test_a_run_through_a_link_keeps_all_its_files_next_to_the_state_file(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "state" / "real.db")
    dag = Dag("linked", str(tmp_path / "link.db"))
    dag.task(lambda: "x" * 11_000_000, "large")
    run = dag.run(mode="inline").raise_for_failure()
    assert len(run.value("large")) == 11_000_000
    assert DagRun.load(str(tmp_path / "link.db"), run.run_id).status == "SUCCESS"
    assert {path.name for path in tmp_path.iterdir()} == {"link.db", "state"}


def test_a_run_is_not_called_dead_where_the_lock_file_cannot_be_opened(start: Start, db: str, trail: Any) -> None:
    """As for another user, who may read the state file alone; here a link stands in place of the lock file."""
    process = start(OWNER, db, trail.path, "r1")
    trail.wait_for("waiting")
    os.rename(f"{db}.lock", f"{db}.elsewhere")
    os.symlink(f"{db}.elsewhere", f"{db}.lock")
    with History(db) as history:
        run = history.run("r1")
    assert (run.status, "is unknown" in str(run.reason)) == ("RUNNING", True)
    with pytest.raises(StoreError, match=r"state\.db\.lock: cannot be opened"):
        delete_runs(db, ["r1"])
    findings = {entry.check: entry for entry in run_checks(db)}
    assert findings["runs"].severity == "note"
    assert "is unknown" in findings["runs"].message
    process.kill()


def test_a_lock_file_that_is_deleted_is_made_again(start: Start, db: str, trail: Any) -> None:
    """Cleaners of stale locks do that. The run stays owned, by a lock in the new file."""
    process = start(OWNER, db, trail.path, "r1")
    trail.wait_for("waiting")
    with Dag("flow", db) as dag:
        dag.task(wait)
    for _ in range(2):
        os.unlink(f"{db}.lock")
        give_up = time.monotonic() + 120
        while not os.path.exists(f"{db}.lock") and time.monotonic() < give_up:
            time.sleep(0.005)
        while not LockFile(db, read_only=True).is_held(1) and time.monotonic() < give_up:
            time.sleep(0.005)
        with History(db) as history:
            assert history.run("r1").status == "RUNNING"
        with pytest.raises(RunOwned, match=rf"run r1 is owned by process {process.pid} "):
            dag.resume("r1", mode="inline")
    process.kill()
    process.communicate()
    assert dag.resume("r1", mode="inline").status == "SUCCESS"


def test_a_process_whose_lock_file_was_deleted_is_reported(db: str) -> None:
    owner, other = LockFile(db), None
    assert owner.acquire(3)
    assert owner.renew()
    os.unlink(f"{db}.lock")
    other = LockFile(db)
    assert other.acquire(3)
    assert not owner.renew()
    owner.close()
    other.close()
