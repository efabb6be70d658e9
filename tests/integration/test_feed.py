"""The live feed: a client that reads a snapshot and follows ends with what the state file has, whenever it began."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from scheduler_kit import ROOT, until

from lightflow.server.feed import Cursor, Feed, FeedPosition
from lightflow.server.frames import FrameBuilder, dump
from lightflow.server.shapes import instance_columns
from lightflow.server.state_follower import StateFollower
from liteflow import Dag, init_schema
from liteflow.api import EventRecord, History


def fail_by(chance: float, item: int = 0) -> int:
    if random.random() < chance:
        raise ValueError(item)
    return item


def write_runs(db: str, seed: int, count: int) -> None:
    """Run random dags: chains, mapped tasks, retries, failures."""
    chance = random.Random(seed)
    for number in range(count):
        dag = Dag(f"dag{number % 2}", db)
        upstream = None
        for place in range(chance.randrange(1, 6)):
            if chance.random() < 0.4:
                items = list(range(chance.randrange(0, 6)))
                task = dag.partial(fail_by, f"m{place}", chance=0.2, retries=1).expand(item=items)
            else:
                task = dag.task(fail_by, f"t{place}", chance=0.2, retries=chance.randrange(2))
            if upstream is not None and chance.random() < 0.7:
                upstream >> task
            upstream = task
        dag.run(mode="thread")


class FollowingClient:
    """A client as a page would be: snapshots at first and after each reset, frames in between."""

    def __init__(self, db: str, feed: Feed) -> None:
        self.db, self.feed, self.frames = db, feed, FrameBuilder(db)
        self.runs: dict[str, str] = {}
        self.tasks: dict[str, dict[tuple[str, int | None], list[Any]]] = {}
        self.cursor: Cursor | None = None
        self.resets = -1

    def snapshot(self) -> None:
        self.resets += 1
        with History(self.db) as history, history.snapshot() as file:
            position = FeedPosition(self.feed.position.generation, *file)
            self.runs = {run.run_id: run.status for run in history.runs(limit=10_000)}
            self.tasks = {run_id: rows(history, run_id) for run_id in self.runs}
        self.cursor = self.feed.cursor(position)

    def follow(self) -> None:
        if self.cursor is None:
            self.snapshot()
            return
        batch = self.feed.after(self.cursor)
        if batch is None:
            self.snapshot()
            return
        topics = ["runs", *dict.fromkeys(f"run:{change.event.run_id}" for change in batch.changes)]
        for topic in topics:
            if shape := self.frames.build(topic, batch.changes):
                self.apply(json.loads(dump(shape)))
        self.cursor = batch.cursor

    def apply(self, frame: dict[str, Any]) -> None:
        if frame["topic"] == "runs":
            self.runs.update((run["run_id"], run["status"]) for run in frame["runs"])
            for run_id in frame["deleted"]:
                self.runs.pop(run_id, None)
                self.tasks.pop(run_id, None)
            return
        run_id = frame["topic"].removeprefix("run:")
        if frame["run"] is None:
            self.tasks.pop(run_id, None)
            return
        known = self.tasks.setdefault(run_id, {})
        for row in frame["tasks"]["rows"]:
            known[row[0], row[1]] = row
        for task_id, index in frame["removed"]:
            known.pop((task_id, index), None)


def rows(history: History, run_id: str) -> dict[tuple[str, int | None], list[Any]]:
    return {(row[0], row[1]): list(row) for row in instance_columns(history.instances(run_id))["rows"]}


@pytest.mark.parametrize("seed", range(4))
def test_a_client_that_follows_ends_equal_to_the_table(tmp_path: Path, seed: int) -> None:
    db, chance = str(tmp_path / "state.db"), random.Random(seed)
    write_runs(db, seed, 1)
    feed = Feed(db)
    feed.look()
    clients = [FollowingClient(db, feed) for _ in range(3)]
    writer = threading.Thread(target=write_runs, args=(db, seed + 100, 12))
    writer.start()
    while writer.is_alive():
        if chance.random() < 0.5:
            feed.look()
        chance.choice(clients).follow()
    feed.look()
    with History(db) as history:
        runs = {run.run_id: run.status for run in history.runs(limit=10_000)}
        tasks = {run_id: rows(history, run_id) for run_id in runs}
    for client in clients:
        client.follow()
        client.follow()
        assert client.runs == runs
        # A run that began before the snapshot is in it; a later one has the tasks that have changed, which are all.
        assert {run_id: client.tasks[run_id] for run_id in runs} == tasks
        assert client.resets == 0
    feed.stop()


def event(seq: int, run_id: str = "run-1") -> EventRecord:
    return EventRecord(seq, run_id, None, None, None, "PENDING", "RUNNING", None, 0.0)


def test_a_position_of_another_file_or_far_behind_is_reset(tmp_path: Path) -> None:
    db = str(tmp_path / "state.db")
    write_runs(db, 1, 30)
    feed = Feed(db)
    feed.look()
    position = feed.position
    assert feed.cursor(position) == feed.end()
    assert feed.cursor(position._replace(generation="00000000")) is None
    assert feed.cursor(position._replace(seq=0)) is None or position.seq < 1000
    # A snapshot may be newer than the feed's last look: it continues with what comes.
    assert feed.cursor(position._replace(seq=position.seq + 5)) == feed.end()
    feed.stop()


def test_another_file_under_the_same_name_begins_a_new_generation(tmp_path: Path) -> None:
    db, other = str(tmp_path / "state.db"), str(tmp_path / "other.db")
    write_runs(db, 1, 1)
    write_runs(other, 2, 2)
    feed = Feed(db)
    feed.look()
    cursor, generation = feed.end(), feed.position.generation
    for end in ("-wal", "-shm"):
        Path(db + end).unlink(missing_ok=True)
    os.replace(other, db)
    feed.look()
    assert feed.position.generation != generation
    assert feed.after(cursor) is None
    assert feed.problem is None
    feed.stop()


def test_another_file_begins_a_new_generation_also_after_a_look_at_none(tmp_path: Path) -> None:
    db, other = tmp_path / "state.db", tmp_path / "other.db"
    write_runs(str(db), 1, 1)
    write_runs(str(other), 2, 2)
    feed = Feed(str(db))
    feed.look()
    cursor = feed.end()
    for end in ("", "-wal", "-shm"):
        Path(f"{db}{end}").unlink(missing_ok=True)
    feed.look()
    assert feed.problem is not None
    other.rename(db)
    feed.look()
    assert feed.problem is None
    assert feed.after(cursor) is None, "a client reads its snapshots again"
    feed.stop()


def test_a_file_that_cannot_be_read_is_a_problem_until_it_can(tmp_path: Path) -> None:
    db, moved = tmp_path / "state.db", tmp_path / "moved.db"
    write_runs(str(db), 1, 1)
    feed = Feed(str(db))
    feed.look()
    db.rename(moved)
    feed.look()
    assert feed.problem == f"{db}: the state file was deleted or moved; the server continues when there is one again"
    moved.rename(db)
    feed.look()
    assert feed.problem is None
    feed.stop()


def test_a_file_that_was_empty_at_first_loses_no_change(tmp_path: Path) -> None:
    db = str(tmp_path / "state.db")
    init_schema(db)
    feed = Feed(db)
    feed.look()
    cursor = feed.end()
    dag = Dag("many", db)
    for number in range(700):
        dag.task(fail_by, f"t{number}", chance=0.0)
    dag.run(mode="thread")
    feed.look()
    batch = feed.after(cursor)
    assert batch is not None
    with History(db) as history:
        assert [change.event.seq for change in batch.changes] == [each.seq for each in history.events(limit=10_000)]
    feed.stop()


@pytest.mark.parametrize("text", ["", "x", "1.2", "a.1.2.3", "a.-1.2", "a.1.x", "a.1." + "9" * 19])
def test_what_is_no_position_is_refused(text: str) -> None:
    assert FeedPosition.parse(text) is None


def test_a_position_is_read_as_it_is_written() -> None:
    assert FeedPosition.parse(str(FeedPosition("0f", 12, 3))) == FeedPosition("0f", 12, 3)


def test_an_older_copy_that_is_restored_into_the_file_begins_a_new_generation(tmp_path: Path) -> None:
    """As `.restore` of SQLite does it: the file has its name and its inode, and other content."""
    db, copy = str(tmp_path / "state.db"), str(tmp_path / "copy.db")
    write_runs(db, 1, 1)
    with closing(sqlite3.connect(db)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    write_runs(db, 2, 2)
    feed = Feed(db)
    feed.look()
    cursor = feed.end()
    with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(db)) as target:
        source.backup(target)
    feed.look()
    assert feed.after(cursor) is None, "a client reads its snapshots again"
    with History(db) as history:
        assert feed.position.seq == history.position().seq
    feed.stop()


def test_the_death_of_an_owner_is_seen_where_the_locks_were_created_after_the_file_was_opened(tmp_path: Path) -> None:
    db, ready = str(tmp_path / "state.db"), tmp_path / "ready"
    write_runs(db, 1, 1)
    Path(f"{db}.lock").unlink()  # as in a copy of a state file
    file = StateFollower(db)
    assert [each.run_id for each in file.look().interrupted] == []
    run = subprocess.Popen([sys.executable, "-c", SLEEPER, db, str(ready)], env={**os.environ, "PYTHONPATH": str(ROOT)})
    until(ready.exists)
    assert interrupted(file, 2) == [], "the run has an owner"
    run.kill()
    run.wait()
    until(lambda: interrupted(file, 1) == ["sleeper"])
    file.close()


SLEEPER = """
import pathlib, sys, time
from liteflow import Dag
def sleep():
    pathlib.Path(sys.argv[2]).touch()
    time.sleep(600)
dag = Dag("slow", sys.argv[1])
dag.task(sleep)
dag.run(mode="thread", run_id="sleeper")
"""


def interrupted(file: StateFollower, looks: int) -> list[str]:
    """Return the runs whose owner has died, as some looks that test the locks report them."""
    run_ids = list[str]()
    for _ in range(looks):
        file._locks_at = 0.0
        run_ids += [each.run_id for each in file.look().interrupted]
    return run_ids


class ExhaustedFeed(Feed):
    """Fails once as code can that lacks memory."""

    has_failed = threading.Event()

    def look(self) -> None:
        if threading.current_thread() is not threading.main_thread() and not self.has_failed.is_set():
            self.has_failed.set()
            raise MemoryError
        super().look()


def test_a_look_that_fails_does_not_end_the_feed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    db = str(tmp_path / "state.db")
    write_runs(db, 1, 1)
    feed = ExhaustedFeed(db)
    feed.start()
    cursor = feed.end()
    assert feed.has_failed.wait(60)
    write_runs(db, 2, 1)
    until(lambda: (batch := feed.after(cursor)) is None or batch.changes)
    assert "the live feed could not look at the state file" in caplog.text
    feed.stop()
