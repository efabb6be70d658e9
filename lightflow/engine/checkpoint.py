"""The JSON checkpoint: a projection of a run for people and other programs. SQLite stays the truth.

One file a run, `<workflow>.<run id>.lightflow-checkpoint.json`, written whole (by rename) when the run ends or is
interrupted. It can be imported again where the state file is gone: see `read`. Nothing else reads or writes it.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from liteflow.collector import collector_paused
from liteflow.names import CHECKPOINT_SUFFIX, checkpoint_name
from liteflow.planning.nodes import instance_name
from liteflow.processes.output import open_regular, read_log
from liteflow.state.history import AttemptRecord, History

VERSION: Final = "1.0"
_OUTPUT_BYTES: Final = 2000  # of each task's output that go into the file: its end
_MOST_BYTES: Final = 256 * 1024 * 1024


class CheckpointError(Exception):
    """A checkpoint file that cannot be used; the message names it."""

    exit_code = 3


class Checkpoint(NamedTuple):
    """A checkpoint file. `completed` maps a task to `{"success", "output", "duration", "exit_code"}`."""

    path: str
    workflow_name: str
    run_id: str
    status: str
    timestamp: str
    completed: Mapping[str, Mapping[str, Any]]
    total_tasks: int
    params: Mapping[str, Any] | None = None  # None: it does not say
    date: float | None = None  # the day or moment that the run is for

    @property
    def succeeded(self) -> dict[str, float]:
        """Seconds each successful task took."""
        tasks = {name: one for name, one in self.completed.items() if "[" not in name}  # and no instances of them
        return {name: max(0.0, float(one.get("duration", 0.0))) for name, one in tasks.items() if one.get("success")}

    @property
    def written_at(self) -> float:
        """When it was written, in epoch seconds; 0 where it does not say. Without a zone it is a local time."""
        try:
            return datetime.datetime.fromisoformat(self.timestamp).timestamp()
        except (ValueError, OverflowError, OSError):
            return 0.0


def write(folder: str, db_path: str, run_id: str, status: str | None = None) -> str:
    """Write the checkpoint of a run and return its path."""
    with collector_paused(), History(db_path) as history:
        run = history.run(run_id)
        instances = history.statuses(run.run_id)
        last = {(one.task_id, one.map_index): one for one in history.attempts(run.run_id)}
    mapped: dict[str, list[AttemptRecord]] = {}
    for one in last.values():
        if one.map_index >= 0:
            mapped.setdefault(one.task_id, []).append(one)
    content = {
        "workflow_name": run.dag_id,
        "timestamp": datetime.datetime.now(datetime.UTC).isoformat(),
        "total_tasks": sum(map_index < 0 for _, map_index, _ in instances),
        "version": VERSION,
        "run_id": run.run_id,
        "status": status or run.status,
        "params": run.params,
        "logical_date": run.logical_date,
    }
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, checkpoint_name(run.dag_id, run.run_id))
    temporary = os.path.join(folder, f".writing-{run.run_id}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # of a writer that was killed; a run has one owner at a time
    try:
        with open(temporary, "w", encoding="utf-8", opener=_privately) as file:
            # A line for each task: `indent` would do without the fast half of the module, and all at once in memory.
            file.write(json.dumps(content, indent=2).removesuffix("\n}") + ',\n  "completed_tasks": {')
            comma = "\n"
            for task_id, map_index, state in instances:
                attempt = last.get((task_id, map_index))
                entry = None if attempt is None else _entry(attempt, state)
                if map_index < 0 and task_id in mapped:
                    entry = _whole(mapped[task_id], state)
                if entry is not None:
                    name = instance_name(task_id, map_index)
                    file.write(f"{comma}    {json.dumps(name)}: {json.dumps(entry)}")
                    comma = ",\n"
            file.write("\n  }\n}\n")
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return path


def _privately(path: str, flags: int) -> int:
    """Make a file that was not there, for its owner alone: it holds output, and its folder may be somebody else's."""
    return os.open(path, flags | os.O_EXCL | os.O_NOFOLLOW, 0o600)


def _entry(attempt: AttemptRecord, status: str) -> dict[str, Any] | None:
    """What a checkpoint says of a task; nothing of one that a resume runs again from the beginning."""
    if attempt.ended_at is None or status not in ("SUCCESS", "FAILED", "SKIPPED"):
        return None
    return {
        "success": status == "SUCCESS",
        "output": _output(attempt),
        "duration": _seconds(attempt.started_at, attempt.ended_at),
        "exit_code": attempt.exit_code if attempt.exit_code is not None else int(status == "FAILED"),
    }


def _whole(attempts: Sequence[AttemptRecord], status: str) -> dict[str, Any] | None:
    """What a checkpoint says of a mapped task: its instances have entries of their own."""
    if status not in ("SUCCESS", "FAILED", "SKIPPED"):
        return None
    ended = max(one.ended_at or one.started_at for one in attempts)
    duration = _seconds(min(one.started_at for one in attempts), ended)
    success = status == "SUCCESS"
    return {"success": success, "output": "", "duration": duration, "exit_code": int(status == "FAILED")}


def _seconds(start: float, end: float) -> float:
    """How long something took; no time where the clock was set back meanwhile."""
    return round(max(0.0, end - start), 6)


def _output(attempt: AttemptRecord) -> str:
    """The end of an attempt's output."""
    if attempt.log_path is None:
        return ""
    try:
        with read_log(attempt.log_path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _OUTPUT_BYTES))
            return file.read(_OUTPUT_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""  # deleted since: a checkpoint is no less true without it


def read(path: str) -> Checkpoint:
    """Read a checkpoint file.

    Raises:
        CheckpointError: it cannot be read, or is no checkpoint of a version we know.
    """
    try:
        with open_regular(path) as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
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
    completed = {
        str(name): one for name, one in raw["completed_tasks"].items() if isinstance(one, dict) and _is_sane(one)
    }
    return Checkpoint(
        path,
        str(raw.get("workflow_name", "")),
        str(raw.get("run_id", "")),
        str(raw.get("status", "")),
        str(raw.get("timestamp", "")),
        completed,
        len(completed) if not isinstance(raw.get("total_tasks"), int) else raw["total_tasks"],
        raw["params"] if isinstance(raw.get("params"), dict) else None,
        float(date) if isinstance(date := raw.get("logical_date"), int | float) and 0 <= date < 1e12 else None,
    )


def _is_sane(entry: Mapping[str, Any]) -> bool:
    duration = entry.get("duration", 0.0)
    return isinstance(entry.get("success"), bool) and isinstance(duration, int | float) and abs(duration) < 1e12


def find(folder: str, workflow_name: str | None = None, limit: int | None = None) -> tuple[list[Checkpoint], int]:
    """The readable checkpoints in a folder, of one workflow or of all, newest first.

    At most `limit` files are read, those that were written last: a folder has one of every run there ever was.
    Returns also how many files were left unread.
    """
    found, paths = list[Checkpoint](), _files(folder, workflow_name)
    unread = len(paths)
    for path in paths:
        if len(found) == limit:
            break
        unread -= 1
        try:
            checkpoint = read(path)
        except CheckpointError:
            continue
        if workflow_name is None or checkpoint.workflow_name == workflow_name:
            found.append(checkpoint)
    return sorted(found, key=lambda one: one.written_at, reverse=True), unread


def _files(folder: str, workflow_name: str | None) -> list[str]:
    """Files that may be checkpoints of a workflow by their names, those first that were written last."""
    begin = f"{workflow_name}." if workflow_name is not None else ""
    written = list[tuple[float, str]]()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(CHECKPOINT_SUFFIX) and entry.name.startswith(begin):
                    with contextlib.suppress(OSError):  # removed at this moment
                        written.append((entry.stat().st_mtime, entry.path))
    except OSError:
        return []
    return [path for _, path in sorted(written, reverse=True)]
