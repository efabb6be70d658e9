"""Copies the state file while runs continue, and rewrites it without free pages while none runs."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3

from liteflow.errors import ResourceError, RunOwned, StoreError
from liteflow.record import Record
from liteflow.state.locks import LockFile
from liteflow.state.retention import PRUNE_LOCK
from liteflow.state.schema import quote_path
from liteflow.state.state_file import (
    WRITE_LOCK,
    connect,
    connect_read_only,
    real_path,
    translated_errors,
)
from liteflow.values.payload import spill_root

_WAIT_S = 5.0


class Backup(Record):
    """A copy of a state file: its path, its size, the number of copied large values, and that of missing ones."""

    path: str
    size_bytes: int
    values: int
    missing: int


def back_up(path: str, target: str) -> Backup:
    """Copy the state file as it is at one instant, with its large values, to a path that does not exist.

    Runs may continue meanwhile. The copy has no free pages. It appears when it is complete.

    Raises:
        StoreError: the target exists; nothing was changed.
        RunOwned: another process prunes the file.
    """
    path, target = real_path(path), os.path.abspath(target)
    for name in (target, spill_root(target)):
        if os.path.lexists(name):
            raise StoreError(f"{name}: exists already; name another file for the copy, or move it elsewhere")
    writing = f"{target}.writing-{os.getpid()}"
    with contextlib.closing(connect_read_only(path)), contextlib.closing(LockFile(path)) as locks:
        if not locks.acquire(PRUNE_LOCK):  # so that no large value is deleted before it is copied
            raise RunOwned(f"{path}: another process prunes or copies it; wait for its end")
        try:
            with translated_errors(target):
                _copy_database(path, writing)
            values, missing = _copy_values(path, writing)
            _sync(writing)
            if os.path.isdir(spill_root(writing)):
                os.rename(spill_root(writing), spill_root(target))
            os.rename(writing, target)
        except OSError as error:
            kind = ResourceError if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else StoreError
            raise kind(f"{target}: cannot be written: {error.strerror}") from None
        finally:
            with contextlib.suppress(OSError):
                os.unlink(writing)
            shutil.rmtree(spill_root(writing), ignore_errors=True)
    return Backup(path=target, size_bytes=os.path.getsize(target), values=values, missing=missing)


def _copy_database(path: str, target: str) -> None:
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))  # as the state file
    source = sqlite3.connect(f"file:{quote_path(path)}?mode=ro", uri=True)
    try:
        source.execute("VACUUM INTO ?", (f"file:{quote_path(target)}",))  # one read transaction, so one instant
    finally:
        source.close()


def _copy_values(path: str, target: str) -> tuple[int, int]:
    """Copy the large values that the copy names. Return their number, and that of missing ones."""
    with contextlib.closing(sqlite3.connect(f"file:{quote_path(target)}?mode=ro", uri=True)) as copy:
        files = [file for (file,) in copy.execute("SELECT DISTINCT file FROM liteflow_xcom WHERE file IS NOT NULL")]
    source, missing = spill_root(path), 0
    for file in files:
        original, place = os.path.join(source, file), os.path.join(spill_root(target), file)
        if os.path.isabs(file) or ".." in file.split("/") or not os.path.isfile(original):
            missing += 1
            continue
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        shutil.copyfile(original, place, follow_symlinks=False)
        _sync(place)
    return len(files) - missing, missing


def free_space(path: str) -> tuple[int, bool]:
    """Return the size of the free pages of a state file, and whether deletions give such pages back to the disk."""
    with contextlib.closing(connect_read_only(path)) as connection, translated_errors(path):
        pages, size, mode = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("freelist_count", "page_size", "auto_vacuum")
        )
    return pages * size, mode == 2


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def vacuum(path: str) -> tuple[int, int]:
    """Rewrite the state file without free pages, while no process owns a run of it. Return its size before and after.

    Afterwards the file gets smaller by itself when runs are deleted, also one that an earlier version created. It needs
    free disk space of twice the size of the file.

    Raises:
        StoreError: there is no such file.
        RunOwned: a live process owns a run, prunes the file or copies it; nothing was changed.
    """
    path = real_path(path)
    connect_read_only(path).close()  # which does not create it
    before = os.path.getsize(path)
    with contextlib.closing(LockFile(path)) as locks, contextlib.closing(connect(path)) as connection:
        if not locks.acquire(PRUNE_LOCK):
            raise RunOwned(f"{path}: another process prunes or copies it; wait for its end")
        if not locks.acquire_within(WRITE_LOCK, _WAIT_S):  # until the end: meanwhile no run can start
            raise StoreError(f"{path}: locked by another program for too long; try again when it is done")
        sql = "SELECT run_no, run_id FROM liteflow_dag_runs WHERE status IN ('RUNNING', 'PENDING', 'UP_FOR_RETRY')"
        with translated_errors(path):
            for run_no, run_id in connection.execute(sql).fetchall():
                if locks.is_held(run_no):
                    raise RunOwned(f"{path}: run {run_id} is running; vacuum the file when it has ended")
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # of an earlier version: it takes effect now
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return before, os.path.getsize(path)
