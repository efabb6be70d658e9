"""Compares the state file with the files that belong to it: files without a row, and rows without their file."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from typing import Any, Final

from liteflow.identifiers import LOG_NAME_PATTERN, STORED_ID_PATTERN
from liteflow.outputs import remove_folder
from liteflow.record import Record
from liteflow.state.deletion import REMOVE_FILES
from liteflow.state.locks import LockFile
from liteflow.state.state_file import connect_read_only, real_path, translated_errors
from liteflow.values.payload import SPILLED_NAME, spill_root

#: Younger files may get their row in a moment.
_SETTLED_S: Final = 3600.0


class Leftovers(Record):
    """The remains of deletions, of killed processes and of other programs. Paths are absolute."""

    deletions: list[str]  #: the ids of runs whose deletion was cut off
    requested_files: int  #: files of deleted runs that the next `prune` removes
    values: list[str]  #: files of large values, or empty folders for them, that no row names
    outputs: list[str]  #: folders of output files of runs that no process owns
    logs: list[str]  #: logs that no row names, in the folders of logs; they may belong to another state file
    missing_values: list[str]  #: files of large values that rows name and that do not exist
    missing_logs: list[str]  #: logs that rows name and that do not exist


def find_leftovers(path: str) -> Leftovers:
    """Return the leftovers of a state file. Nothing is changed.

    Raises:
        StoreError: there is no such file, or it cannot be read.
    """
    path = real_path(path)
    with contextlib.closing(connect_read_only(path)) as connection, translated_errors(path):
        with contextlib.closing(LockFile(path, read_only=True)) as locks:
            values, missing_values = _values(path, connection)
            logs, missing_logs = _logs(connection)
            return Leftovers(
                deletions=_column(connection, "SELECT run_id FROM liteflow_dag_runs WHERE status='DELETED'"),
                requested_files=sum(_requested(connection)),
                values=values,
                outputs=list(_outputs(path, connection, locks)),
                logs=logs,
                missing_values=missing_values,
                missing_logs=missing_logs,
            )


def remove_leftovers(path: str) -> list[str]:
    """Remove the large values and the output files that belong to no run. Return the removed paths.

    Logs stay: runs of another state file may have the same folder.
    """
    path = real_path(path)
    leftovers = find_leftovers(path)
    for file in leftovers.values:
        with contextlib.suppress(OSError):
            (os.rmdir if os.path.isdir(file) else os.unlink)(file)
    for folder in leftovers.outputs:
        remove_folder(folder)
    return [each for each in (*leftovers.values, *leftovers.outputs) if not os.path.lexists(each)]


def _column(connection: sqlite3.Connection, sql: str) -> list[str]:
    return [value for (value,) in connection.execute(sql)]


def _requested(connection: sqlite3.Connection) -> Iterator[int]:
    sql = "SELECT detail FROM liteflow_requests WHERE action=?"
    for (detail,) in connection.execute(sql, (REMOVE_FILES,)):
        try:
            paths: Any = json.loads(detail or "[]")
        except (ValueError, RecursionError):
            continue
        yield len(paths) if isinstance(paths, list) else 0


def _values(path: str, connection: sqlite3.Connection) -> tuple[list[str], list[str]]:
    """Return the files of large values that no row names, and those that do not exist although a row names them."""
    root = spill_root(path)
    named = set(_column(connection, "SELECT file FROM liteflow_xcom WHERE file IS NOT NULL"))
    present, without_row = set[str](), list[str]()
    latest = time.time() - _SETTLED_S
    for folder in _entries(root):
        if not STORED_ID_PATTERN.match(folder.name) or not folder.is_dir(follow_symlinks=False):
            continue
        files = [entry for entry in _entries(folder.path) if re.match(SPILLED_NAME, entry.name)]
        present.update(f"{folder.name}/{entry.name}" for entry in files)
        without_row += [
            entry.path for entry in files if f"{folder.name}/{entry.name}" not in named and _modified_at(entry) < latest
        ]
        if not files and _modified_at(folder) < latest:
            without_row.append(folder.path)
    return without_row, sorted(os.path.join(root, file) for file in named - present)


def _outputs(path: str, connection: sqlite3.Connection, locks: LockFile) -> Iterator[str]:
    """Yield the folders of output files of runs that no process owns."""
    prefix = f"{os.path.basename(path)}_out-"
    for entry in _entries(os.path.dirname(path)):
        if not entry.name.startswith(prefix) or not entry.is_dir(follow_symlinks=False):
            continue
        run_id = entry.name.removeprefix(prefix)
        if not STORED_ID_PATTERN.match(run_id):
            continue
        row = connection.execute("SELECT run_no FROM liteflow_dag_runs WHERE run_id=?", (run_id,)).fetchone()
        if row is None or not locks.is_held(row[0]):
            yield entry.path


def _logs(connection: sqlite3.Connection) -> tuple[list[str], list[str]]:
    """Return the logs that no row names, in the folders of logs, and those that do not exist although a row names them.

    A log is created a moment before its row names it, so new files are left out.
    """
    named = set(
        _column(
            connection,
            "SELECT log_path FROM liteflow_attempts WHERE log_path IS NOT NULL UNION "
            "SELECT log_path FROM liteflow_task_instances WHERE log_path IS NOT NULL AND status<>'RUNNING'",
        )
    )
    present, without_row = set[str](), list[str]()
    latest = time.time() - _SETTLED_S
    for folder in sorted({os.path.dirname(path) for path in named}):
        for entry in _entries(folder):
            if not LOG_NAME_PATTERN.match(entry.name):
                continue
            present.add(entry.path)
            if entry.path not in named and _modified_at(entry) < latest:
                without_row.append(entry.path)
    return without_row, sorted(path for path in named - present if not os.path.lexists(path))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (OSError, ValueError):
        return []  # the folder does not exist


def _modified_at(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except OSError:
        return time.time()  # it was removed a moment ago
