"""Save and load the execution state of a run as a JSON checkpoint, for people and for other programs.

A run has one file, `<workflow>.<run id>.lightflow-checkpoint.json`, which is written when the run ends or is
interrupted. The SQLite state file stays the source of truth; a checkpoint is only imported (see `read`) where the state
file no longer exists.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lightflow.errors import CheckpointError
from liteflow import LiteflowError, Observer, RunStart
from liteflow.api import AttemptRecord, History, Record, RunRecord, RunStatus, gc_paused, instance_name, open_log
from liteflow.identifiers import CHECKPOINT_SUFFIX, checkpoint_name
from liteflow.processes.log_file import open_regular

VERSION: Final = "1.0"
_OUTPUT_BYTES: Final = 2000  # the end of each task's output that the file holds
_MAX_BYTES: Final = 256 * 1024 * 1024

_Key = tuple[str, int]  # a task id, and the index of an instance or -1


class Checkpoint(Record):
    """A checkpoint file. `completed` maps a task to `{"success", "output", "duration", "exit_code"}`."""

    path: str
    workflow_name: str
    run_id: str
    status: str
    timestamp: str
    completed: Mapping[str, Mapping[str, Any]]
    total_tasks: int
    params: Mapping[str, Any] | None = None  #: None: the file has no parameters
    date: float | None = None  #: the logical date of the run

    @property
    def succeeded(self) -> dict[str, float]:
        """Return the successful tasks, without instances of mapped tasks, and the seconds each took."""
        tasks = {name: entry for name, entry in self.completed.items() if "[" not in name}
        return {
            name: max(0.0, float(entry.get("duration", 0.0))) for name, entry in tasks.items() if entry.get("success")
        }

    @property
    def written_at(self) -> float:
        """Return when the file was written, in epoch seconds; 0 if unknown. A time without a zone is a local time."""
        try:
            return datetime.datetime.fromisoformat(self.timestamp).timestamp()
        except (ValueError, OverflowError, OSError):
            return 0.0


class CheckpointWriter(Observer):
    """Observe a run and write its checkpoint when it ends."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.settings = {"checkpoint_dir": folder}

    def run_began(self, run: RunStart) -> None:
        self._run = run

    def run_ended(self, status: RunStatus, reason: str | None) -> None:
        try:
            write(self._folder, self._run.db_path, self._run.run_id, status)
        except (OSError, LiteflowError) as error:  # for example a full disk; the run itself is stored
            import logging

            logging.getLogger(__name__).warning("the checkpoint was not written: %s", error)


def write(folder: str, db_path: str, run_id: str, status: str | None = None) -> str:
    """Write the checkpoint of a run and return its path."""
    with gc_paused(), History(db_path) as history:
        run = history.run(run_id)
        statuses = history.statuses(run.run_id)
        attempts = history.last_attempts(run.run_id, of_each=1).records
        last = {(attempt.task_id, attempt.map_index): attempt for attempt in attempts}
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, checkpoint_name(run.dag_id, run.run_id))
    temporary = os.path.join(folder, f".writing-{run.run_id}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # of a writer that was killed; a run has one owner at a time
    try:
        with open(temporary, "w", encoding="utf-8", opener=_open_private) as file:
            # One line for each task: `indent` is slow, and needs the whole text in memory.
            header = json.dumps(_header(run, statuses, status), indent=2)
            file.write(header.removesuffix("\n}") + ',\n  "completed_tasks": {')
            comma = "\n"
            for name, entry in _entries(statuses, last):
                file.write(f"{comma}    {json.dumps(name)}: {json.dumps(entry)}")
                comma = ",\n"
            file.write("\n  }\n}\n")
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return path


def _header(run: RunRecord, statuses: Sequence[tuple[str, int, str]], status: str | None) -> dict[str, Any]:
    return {
        "workflow_name": run.dag_id,
        "timestamp": datetime.datetime.now(datetime.UTC).isoformat(),
        "total_tasks": sum(map_index < 0 for _, map_index, _ in statuses),
        "version": VERSION,
        "run_id": run.run_id,
        "status": status or run.status,
        "params": run.params,
        "logical_date": run.logical_date,
    }


def _entries(
    statuses: Sequence[tuple[str, int, str]], last: Mapping[_Key, AttemptRecord]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the entry of each task and instance that has ended."""
    mapped: dict[str, list[AttemptRecord]] = {}
    for record in last.values():
        if record.map_index >= 0:
            mapped.setdefault(record.task_id, []).append(record)
    for task_id, map_index, status in statuses:
        attempt = last.get((task_id, map_index))
        entry = None if attempt is None else _entry(attempt, status)
        if map_index < 0 and task_id in mapped:
            entry = _mapped_entry(mapped[task_id], status)
        if entry is not None:
            yield instance_name(task_id, map_index), entry


def _open_private(path: str, flags: int) -> int:
    """Create a new file that only its owner can read: it holds output, and its folder may be shared."""
    return os.open(path, flags | os.O_EXCL | os.O_NOFOLLOW, 0o600)


def _entry(attempt: AttemptRecord, status: str) -> dict[str, Any] | None:
    """Return the entry of a task; None for a task that a resume runs again from the beginning."""
    if attempt.ended_at is None or status not in ("SUCCESS", "FAILED", "SKIPPED"):
        return None
    return {
        "success": status == "SUCCESS",
        "output": _output(attempt),
        "duration": _seconds(attempt.started_at, attempt.ended_at),
        "exit_code": attempt.exit_code if attempt.exit_code is not None else int(status == "FAILED"),
    }


def _mapped_entry(attempts: Sequence[AttemptRecord], status: str) -> dict[str, Any] | None:
    """Return the entry of a mapped task as a whole; its instances have entries of their own."""
    if status not in ("SUCCESS", "FAILED", "SKIPPED"):
        return None
    ended = max(attempt.ended_at or attempt.started_at for attempt in attempts)
    duration = _seconds(min(attempt.started_at for attempt in attempts), ended)
    success = status == "SUCCESS"
    return {"success": success, "output": "", "duration": duration, "exit_code": int(status == "FAILED")}


def _seconds(start: float, end: float) -> float:
    """Return a duration; 0 if the clock was set back in between."""
    return round(max(0.0, end - start), 6)


def _output(attempt: AttemptRecord) -> str:
    """Return the end of an attempt's output."""
    if attempt.log_path is None:
        return ""
    try:
        with open_log(attempt.log_path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _OUTPUT_BYTES))
            return file.read(_OUTPUT_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""  # the log was deleted; the checkpoint is valid without it


def read(path: str) -> Checkpoint:
    """Read a checkpoint file.

    Raises:
        CheckpointError: the file cannot be read, or is not a checkpoint of a known version.
    """
    raw = _load(path)
    completed = {
        str(name): entry
        for name, entry in raw["completed_tasks"].items()
        if isinstance(entry, dict) and _is_valid(entry)
    }
    return Checkpoint(
        path=path,
        workflow_name=str(raw.get("workflow_name", "")),
        run_id=str(raw.get("run_id", "")),
        status=str(raw.get("status", "")),
        timestamp=str(raw.get("timestamp", "")),
        completed=completed,
        total_tasks=raw["total_tasks"] if isinstance(raw.get("total_tasks"), int) else len(completed),
        params=raw["params"] if isinstance(raw.get("params"), dict) else None,
        date=float(date) if isinstance(date := raw.get("logical_date"), int | float) and 0 <= date < 1e12 else None,
    )


def _load(path: str) -> dict[str, Any]:
    """Return the content of a checkpoint file. Raises CheckpointError."""
    try:
        with open_regular(path) as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise CheckpointError(f"{path}: too large for a checkpoint")
        raw = json.loads(data.decode("utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is not a checkpoint (not valid JSON: {error})") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("completed_tasks"), dict):
        raise CheckpointError(f'{path}: is not a checkpoint (it has no "completed_tasks")')
    if str(raw.get("version", VERSION)).partition(".")[0] != VERSION.partition(".")[0]:
        raise CheckpointError(f"{path}: has version {raw['version']!r}; this program knows {VERSION}")
    return raw


def _is_valid(entry: Mapping[str, Any]) -> bool:
    duration = entry.get("duration", 0.0)
    return isinstance(entry.get("success"), bool) and isinstance(duration, int | float) and abs(duration) < 1e12


def find(folder: str, workflow_name: str | None = None, limit: int | None = None) -> tuple[list[Checkpoint], int]:
    """Return the readable checkpoints in a folder, newest first, and the number of files that were not read.

    Without a workflow name they are those of all workflows. At most `limit` files are read, the last written ones: a
    folder has one file for each run.
    """
    checkpoints, paths = list[Checkpoint](), _files(folder, workflow_name)
    unread = len(paths)
    for path in paths:
        if len(checkpoints) == limit:
            break
        unread -= 1
        try:
            checkpoint = read(path)
        except CheckpointError:
            continue
        if workflow_name is None or checkpoint.workflow_name == workflow_name:
            checkpoints.append(checkpoint)
    return sorted(checkpoints, key=lambda checkpoint: checkpoint.written_at, reverse=True), unread


def _files(folder: str, workflow_name: str | None) -> list[str]:
    """Return the files that are checkpoints of a workflow by their names, the last written first."""
    begin = f"{workflow_name}." if workflow_name is not None else ""
    written = list[tuple[float, str]]()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(CHECKPOINT_SUFFIX) and entry.name.startswith(begin):
                    with contextlib.suppress(OSError):  # it was removed a moment ago
                        written.append((entry.stat().st_mtime, entry.path))
    except OSError:
        return []
    return [path for _, path in sorted(written, reverse=True)]
