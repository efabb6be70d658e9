"""The fake store tells the same story as the real one: random runs on both have the same events, rows and attempts."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from driving import Drive
from fakes import Crashed
from random_runs import RandomRun

from liteflow import Change
from liteflow.running.ports import RunStore
from liteflow.running.run import Result
from liteflow.state.admin import request
from liteflow.state.locks import LockFile
from liteflow.state.store import Store
from liteflow.work import Work

EVENT = "coalesce(task_id, ''), coalesce(map_index, -1), coalesce(attempt, 0), previous, status"
ROW = "task_id, map_index, status, try_number"
ATTEMPT = "task_id, map_index, attempt, status"


class CrashingStore(Store):
    """A real store whose process dies at a commit."""

    def __init__(self, path: str, locks: LockFile, crash_at: int | None, after: bool) -> None:
        super().__init__(path, locks)
        self._commits = 0
        self._crash_at = crash_at
        self._crash_after = after

    def commit(self) -> None:
        self._commits += 1
        if self._commits == self._crash_at and not self._crash_after:
            raise Crashed
        super().commit()
        if self._commits == self._crash_at:
            raise Crashed


class RealDrive(Drive):
    """A run on a real state file, without the checks that need the fake one."""

    def open_store(self, *, resume: bool, crash_at: int | None, after: bool) -> RunStore:
        self._locks = LockFile(self.path)
        self._store = CrashingStore(self.path, self._locks, crash_at, after)
        return self._store

    def _run(self, *, resume: bool, crash_at: int | None, after: bool) -> Result:
        try:
            return super()._run(resume=resume, crash_at=crash_at, after=after)
        finally:
            self._store.close()
            self._locks.close()

    def cancel(self, reason: str = "cancelled by a test") -> None:
        request(self.path, "r", "cancel", reason)

    def check_start(self, work: Work) -> None:
        if work.handle is not None:
            self.polls.append((self.clock.seconds, work.task_id, work.handle))
            return
        self.submitted.append((work.task_id, work.map_index, work.attempt))

    def check_story(self) -> None:
        """Leave it to `event_fold`, which looks at every state file of a test."""

    def check_end(self, result: Result) -> None:
        """Leave it to the run on the fake store."""

    def _check_changes(self, changes: Sequence[Change]) -> None:
        """Leave it to the run on the fake store."""


def story(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Read the events, rows and attempts of the run."""
    connection = sqlite3.connect(path)
    outcome = {
        "events": connection.execute(f"SELECT {EVENT} FROM liteflow_events ORDER BY seq").fetchall(),
        "rows": connection.execute(
            "SELECT task_id, map_index, status, try_number FROM liteflow_task_instances"
        ).fetchall(),
        "attempts": connection.execute("SELECT task_id, map_index, attempt, status FROM liteflow_attempts").fetchall(),
    }
    connection.close()
    return outcome


@pytest.mark.parametrize("seed", range(60))
def test_both_stores_give_the_same_events(seed: int, tmp_path: Path) -> None:
    fake = RandomRun(seed)
    fake.run()
    real = RandomRun(seed, partial(RealDrive, path=str(tmp_path / "state.db")))
    real.run()
    file, stored = fake.drive.file, story(tmp_path / "state.db")
    assert real.drive.submitted == fake.drive.submitted
    assert sorted(stored["rows"]) == sorted((*key, row.status, row.attempt) for key, row in file.rows.items())
    assert sorted(stored["attempts"]) == sorted((*key, verdict) for key, verdict in file.attempts.items())
    events = [tuple(event[:5]) for event in file.events]
    assert sorted(stored["events"], key=repr) == sorted(events, key=repr)
