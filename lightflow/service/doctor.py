"""Check whether this machine and a state file are fit to run workflows. Nothing is changed or executed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

from lightflow.text import printable
from liteflow import LiteflowError, TaskFailed
from liteflow.api import History, RunRecord, instance_name
from liteflow.context import mark_of
from liteflow.processes import tree
from liteflow.processes.capabilities import missing_capabilities
from liteflow.state.locks import LockFile, other_owner
from liteflow.state.schema import SCHEMA_VERSION
from liteflow.state.state_file import connect_read_only, translated_errors

#: `warning`: it works, with a risk; `missing`: runs need something that is missing; `problem`: the state file has one.
Severity = Literal["fine", "note", "warning", "missing", "problem"]

_NETWORK: Final = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "9p", "afs", "ceph", "coda", "glusterfs", "fuse.glusterfs",
    "lustre", "gpfs", "beegfs", "ocfs2", "gfs2", "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "virtiofs",
    "vboxsf",
}  # fmt: skip
_STRICT_TABLES: Final = (3, 37, 0)
_WAL_RESET: Final = ((3, 7, 0), (3, 51, 2))  # the first and the last version with the bug
LOW_DISK_BYTES: Final = 100 * 1024 * 1024
_LARGE_WAL_BYTES: Final = 256 * 1024 * 1024
_ENGINE_S: Final = 5.0  # the time of a container engine for its answer
_RUNS: Final = 200  # the newest runs, which are checked for dead owners

#: The consequence of a missing capability, and what to do.
WITHOUT_CAPABILITIES: Final = (
    "a task that hides from its process group could run on until the run ends, or longer; use a kernel of 5.3 or "
    "newer, with the /proc of its own PID namespace and without a sandbox that refuses these calls"
)


class Finding(NamedTuple):
    """The result of a check."""

    check: str
    severity: Severity
    message: str
    hint: str | None = None  #: what to do


def run_checks(db: str) -> list[Finding]:
    """Run all checks and return their results, the basic ones first. Raises nothing."""
    checks: dict[str, Callable[[str], Iterator[Finding]]] = {
        "python": _python,
        "sqlite": _sqlite,
        "processes": _processes,
        "folder": _folder,
        "file system": _file_system,
        "locks": _locks,
        "state file": state_file_findings,
        "owner": _owner,
        "runs": _runs,
        "undos": _undos,
        "containers": _containers,
    }
    findings: list[Finding] = []
    try:
        os.path.abspath(db)
    except FileNotFoundError:
        return [Finding("folder", "missing", "the current folder no longer exists", "change to another folder")]
    broken = False
    for name, check in checks.items():
        if broken and name in ("runs", "undos", "containers"):
            continue
        try:
            findings += check(db)
        except LiteflowError as error:
            findings.append(Finding(name, "problem", str(error)))
        except (OSError, ValueError, ArithmeticError, sqlite3.Error) as error:
            severity: Severity = "problem" if name in ("state file", "runs") else "missing"
            findings.append(Finding(name, severity, f"cannot be checked ({type(error).__name__}: {error})"))
        broken = broken or any(finding.severity == "problem" for finding in findings)
    return findings


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 3 if the state file has a problem, 1 if something that runs need is missing, otherwise 0."""
    severities = {finding.severity for finding in findings}
    return 3 if "problem" in severities else 1 if "missing" in severities else 0


def _python(db: str) -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if not sys.platform.startswith("linux"):
        yield Finding("python", "missing", f"Python {version} on {sys.platform}", "Lightflow is tested on Linux only")
    else:
        yield Finding("python", "fine", f"Python {version}")


def _sqlite(db: str) -> Iterator[Finding]:
    version = sqlite3.sqlite_version_info
    text = f"SQLite {sqlite3.sqlite_version}"
    if version < _STRICT_TABLES:
        yield Finding("sqlite", "missing", text, "Lightflow needs SQLite 3.37 or newer: use a newer Python or system")
    elif _WAL_RESET[0] <= version <= _WAL_RESET[1]:
        yield Finding(
            "sqlite",
            "note",
            f"{text} has the WAL-reset bug of 3.7.0 to 3.51.2, which can corrupt a file when two programs write and "
            "checkpoint at the same instant. Lightflow checkpoints only while no other program writes, under a lock "
            "that its writers share, so its own programs are not affected",
            "do not write to the state file with other programs during a run; reading is safe",
        )
    else:
        yield Finding("sqlite", "fine", f"{text} (the WAL-reset bug was fixed in 3.51.3)")


def _processes(db: str) -> Iterator[Finding]:
    """Check what the guardian needs to end every process of a task."""
    missing = missing_capabilities()
    if missing:
        yield Finding("processes", "missing", f"not available here: {', '.join(missing)}", WITHOUT_CAPABILITIES)
    else:
        yield Finding("processes", "fine", "every process that a task starts can be found and ended")


def _folder(db: str) -> Iterator[Finding]:
    folder = _folder_of(db)
    if not os.path.isdir(folder):
        yield Finding("folder", "missing", f"{folder}: no such folder", "create it, or name another file with --db")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding("folder", "warning", f"{folder}: cannot be written to", "runs can be shown, but not started")
    free = shutil.disk_usage(folder).free
    size = f"{free / 1024**3:,.1f} GiB free in {folder}"
    if free < LOW_DISK_BYTES:
        yield Finding("disk", "warning", size, "free some space before the next run")
    else:
        yield Finding("disk", "fine", size)


def _file_system(db: str) -> Iterator[Finding]:
    yield file_system_finding(file_system_of(os.path.realpath(_folder_of(db))))


def file_system_finding(kind: str | None) -> Finding:
    """Return what a type of file system means for a state file on it."""
    if kind is None:
        return Finding("file system", "note", "its type is not known")
    if kind in _NETWORK:
        return Finding(
            "file system",
            "warning",
            f"{kind} is a network file system: locks and syncs are not reliable there",
            "keep the state file on a local disk",
        )
    if kind in ("tmpfs", "ramfs"):
        return Finding("file system", "note", f"{kind} is in memory: the state file does not survive a restart")
    return Finding("file system", "fine", kind)


def file_system_of(path: str, table: str = "/proc/self/mountinfo") -> str | None:
    """Return the type of the file system of an absolute path; None if it is not known."""
    try:
        with open(table, encoding="utf-8", errors="surrogateescape") as file:
            rows = file.read().splitlines()
    except OSError:
        return None
    best, kind = -1, None
    for row in rows:
        before, _, after = row.partition(" - ")
        fields, types = before.split(" "), after.split(" ")
        if len(fields) < 5 or not types[0]:
            continue
        point = _unescaped(fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:  # of two on one mount point the later one hides the other
            best, kind = len(point), types[0]
    return kind


def _unescaped(point: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(code, char)
    return point


def _locks(db: str) -> Iterator[Finding]:
    """Acquire and test a lock as a run does, in a temporary file next to the state file."""
    folder = _folder_of(db)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        yield Finding("locks", "note", "not tested: the folder of the state file is not writable")
        return
    scratch = os.path.join(folder, f".lightflow-doctor-{os.getpid()}")
    owner = other = None
    try:
        owner = LockFile(scratch)
        other = LockFile(scratch)
        held = owner.acquire(1)
        LockFile(scratch).close()  # a POSIX lock would be lost here
        works = held and other.is_held(1) and not other.acquire(1) and not other.is_held(2)
        owner.release(1)
        works = works and not other.is_held(1)
    except LiteflowError:
        works = False
    finally:
        for lock in (owner, other):
            if lock is not None:
                lock.close()
        if os.path.lexists(f"{scratch}.lock"):
            os.unlink(f"{scratch}.lock")
    if works:
        yield Finding("locks", "fine", "a run has one owner, and a dead owner is detected at once")
    else:
        hint = "two programs could run the same run: keep the state file on a local disk"
        yield Finding("locks", "missing", "locks of open files do not work here", hint)


def state_file_findings(db: str, *, every_row: bool = False) -> Iterator[Finding]:
    """Check the integrity of the state file; with `every_row` also that each index has the rows of its table."""
    pragma = "integrity_check" if every_row else "quick_check"
    if not os.path.lexists(db):
        yield Finding("state file", "fine", f"{db}: does not exist yet; the first run creates it")
        return
    if os.path.isfile(db) and not os.path.getsize(db):
        yield Finding("state file", "note", f"{db}: is empty; the next run creates the tables")
        return
    connection = connect_read_only(os.path.abspath(db))
    try:
        with translated_errors(db):
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            errors = [line for table in _tables_to_check(connection) for line in _errors(connection, pragma, table)]
    finally:
        connection.close()
    if errors:
        hint = "keep a copy of it and of its -wal file, and use another --db; `sqlite3 FILE .recover` may recover most"
        yield Finding("state file", "problem", f"{db}: is corrupt: {'; '.join(errors)[:300]}", hint)
        return
    size = os.path.getsize(db)
    yield Finding(
        "state file", "fine", f"{db}: intact, {size / 1024**2:,.1f} MiB, schema {version} of {SCHEMA_VERSION}"
    )
    log = f"{db}-wal"
    if os.path.exists(log) and os.path.getsize(log) > _LARGE_WAL_BYTES:
        hint = "a program may have read it for a long time: end that program"
        yield Finding("state file", "warning", f"{log}: has grown to {os.path.getsize(log) / 1024**2:,.0f} MiB", hint)


def _owner(db: str) -> Iterator[Finding]:
    """Check that the state file is the user's own: tasks decode values from it, which may execute code."""
    name = other_owner(db)
    if name is not None:
        yield Finding("owner", "warning", f"{db}: belongs to {name}", "run workflows on it only if you trust that user")


def _tables_to_check(connection: sqlite3.Connection) -> list[str]:
    """Return the arguments of the integrity checks: the whole file, or each table of liteflow if others exist.

    The constraints of a table of another program may compute without end.
    """
    names = [str(row[0]) for row in connection.execute("SELECT name FROM main.sqlite_schema WHERE type='table'")]
    liteflow_tables = [name for name in names if name.startswith("liteflow_")]
    return ["3"] if all(name.startswith("sqlite_") for name in set(names) - set(liteflow_tables)) else liteflow_tables


def _errors(connection: sqlite3.Connection, pragma: str, what: str) -> list[str]:
    lines = [str(row[0]) for row in connection.execute(f"PRAGMA main.{pragma}({what})")]
    return [] if lines == ["ok"] else lines[:3]


def _runs(db: str) -> Iterator[Finding]:
    """Check for runs whose owner died, for processes that they left behind, and whether logs can be written."""
    if not os.path.isfile(db) or not os.path.getsize(db):
        return
    with History(db) as history:
        runs, unknown = history.runs(limit=_RUNS), history.unknown
    if unknown is not None and any(run.status in ("RUNNING", "PENDING") for run in runs):
        yield Finding("runs", "note", f"of a run that is running, {unknown}", "check as the user who runs it")
        return
    dead = [run for run in runs if run.status == "INTERRUPTED" and run.ended_at is None]
    for run in dead:
        yield _dead(run)
    if not dead:
        yield Finding("runs", "fine", "no run has lost its owner" if runs else "no run yet")
    folder = runs[0].settings.get("log_dir") if runs else None
    if isinstance(folder, str) and not _is_writable(folder):
        yield Finding("output", "warning", f"{folder}: cannot be written to", "tasks run, and their output is lost")


def _undos(db: str) -> Iterator[Finding]:
    """Check for attempts that may have left something outside the process tree, such as a container."""
    if not os.path.isfile(db) or not os.path.getsize(db):
        return
    with History(db) as history:
        for run in history.runs(limit=_RUNS):
            if run.status in ("RUNNING", "PENDING"):
                continue
            for undo in history.undos(run.run_id):
                mark = mark_of(history.path, run.run_id, undo.task_id, undo.map_index, undo.attempt)
                task = printable(instance_name(undo.task_id, undo.map_index))
                place = "" if undo.host is None else f" on {printable(undo.host)}"
                why = f"was not done{place}" if undo.problem is None else f"failed{place}: {printable(undo.problem)}"
                yield Finding(
                    "undos",
                    "warning",
                    f"run {run.run_id} of {run.dag_id}: the undo of {task}, attempt {undo.attempt}, {why}; what it "
                    f"started may still run under the mark {mark}",
                    f"lightflow resume {run.run_id}",
                )


def _containers(db: str) -> Iterator[Finding]:
    """Check for containers of runs that have no owner. An engine that does not answer has none of this state file."""
    if not os.path.isfile(db) or not os.path.getsize(db):
        return
    from lightflow.plugins import containers  # only where there is a state file

    with History(db) as history:
        path = history.path
        active = {run.run_id for run in history.runs(limit=_RUNS) if run.status in ("RUNNING", "PENDING")}
    for engine in containers.ContainerEngine.installed(containers.client_environment()):
        try:
            left = containers.labelled(engine, path, _ENGINE_S)
        except TaskFailed:
            continue
        for container in left:
            if container.run_id not in active:
                yield Finding(
                    "containers",
                    "warning",
                    f"the container {container.name} of task {printable(container.task_id)}, run "
                    f"{printable(container.run_id)}, exists without its run ({printable(container.status)})",
                    f"{engine.name} rm --force {container.name}",
                )


def _dead(run: RunRecord) -> Finding:
    survivors = tree.find_survivors(run.owner_session) if run.owner_session is not None else []
    pids = ", ".join(map(str, survivors[:10]))
    alive = f"; {len(survivors)} processes of its tasks are still alive: {pids}" if survivors else ""
    return Finding(
        "runs",
        "warning",
        f"run {run.run_id} of {run.dag_id} has lost its owner{alive}",
        f"lightflow resume {run.run_id}",
    )


def _is_writable(folder: str) -> bool:
    """Return whether files can be created in a folder, or the folder itself."""
    while not os.path.lexists(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


def _folder_of(db: str) -> str:
    return os.path.dirname(os.path.abspath(db))
