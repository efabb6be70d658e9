"""Opens the state file, and translates the errors of SQLite.

Never `open()` the database, its -wal or its -shm file in a process that has it open in SQLite: closing that descriptor
would drop SQLite's locks.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

from liteflow.errors import (
    CorruptDatabase,
    DefinitionError,
    ForeignDatabase,
    LiteflowError,
    NoStateFile,
    ResourceError,
    RunNotFound,
    StoreError,
)
from liteflow.state.locks import LockFile, ownership_hint
from liteflow.state.schema import check_schema, migrate, new_file, quote_path, read_as_newest, use_wal
from liteflow.state.sqlite_locks import Identity, identity

_BUSY_MS: Final = 5000
_CACHE_KIB: Final = 16384  # every commit of a large run reads the pages that are not in the cache from the file
_CHECKPOINT_BYTES: Final = 4 * 1024 * 1024  # of write-ahead log
#: To what size SQLite shortens a log that is copied: smaller, so that its size shows when it is full again.
_SHORTENED_BYTES: Final = _CHECKPOINT_BYTES - 65536
_LONGEST_PATH: Final = 511  # bytes
_ONE_PAGE: Final = 65536  # the largest page of SQLite: a state file has one before it has a write-ahead log
#: Held while a file is created and while a reader opens one: closing any descriptor of a database drops all locks that
#: SQLite has on it in this process.
_opening = threading.RLock()
#: the byte of the lock file that is held to write or to checkpoint; bytes from 1 are runs
WRITE_LOCK: Final = 0
#: the suffixes of the files that make up the state file while it is open
ENDS: Final = ("", "-wal", "-shm")


def _after_fork() -> None:
    global _opening
    _opening = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


def init_schema(db_path: str = "liteflow.db") -> None:
    """Create the state file, or bring its tables up to date. `Dag.run` does it too, and repeating it is harmless.

    Raises:
        StoreError: the file cannot be written, or belongs to another program.
    """
    connect(real_path(db_path)).close()


def connect(path: str) -> sqlite3.Connection:
    """Open the state file for writing; create or upgrade it first. In autocommit mode: see `Transaction`.

    Raises:
        StoreError: it cannot be opened, belongs to another program, is damaged, or is newer than this version.
    """
    if os.path.isdir(path):
        raise StoreError(f"{path}: is a folder, not a state file; name a file with --db")
    with _opening:
        if not os.path.lexists(path):
            _make(path)
    with translated_errors(path):
        connection = sqlite3.connect(
            path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False, factory=_Connection
        )
        try:
            _settings(connection)
            connection.execute("PRAGMA synchronous=NORMAL")
            migrate(connection, path)
            use_wal(connection)
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            connection.execute("PRAGMA wal_autocheckpoint=0")  # only a holder of the write lock may
            connection.execute(f"PRAGMA journal_size_limit={_SHORTENED_BYTES}")
        except BaseException:
            connection.close()
            raise
    return connection


def _make(path: str) -> None:
    """Create a state file without runs: after a crash it is complete or absent, and no other file is replaced.

    Only its owner may read it, because it holds parameters and values; SQLite gives its -wal and -shm the same mode. On
    a file system without unnamed files an empty file is created, which SQLite fills. If no file can be created, SQLite
    reports the reason when it opens it.
    """
    try:
        handle = os.open(os.path.dirname(path) or ".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            with open(handle, "wb", closefd=False) as file:
                file.write(new_file())
            os.fsync(handle)
            os.link(f"/proc/self/fd/{handle}", path, src_dir_fd=handle)  # it follows that link because of src_dir_fd
        finally:
            os.close(handle)
    except (OSError, AttributeError):
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


#: The default names of the state file, and what writes them.
_DEFAULT_NAMES = {"liteflow.db": "Python scripts", "lightflow.db": "`lightflow run`"}


def other_state_file_hint(path: str) -> str:
    """Return a hint that the default state file of the other interface exists next to the missing one; else ''."""
    folder, name = os.path.split(path)
    for other, writer in _DEFAULT_NAMES.items():
        if name in _DEFAULT_NAMES and name != other and os.path.isfile(os.path.join(folder, other)):
            return f"{other} exists, with the runs of {writer}: --db {os.path.join(folder, other)}"
    return ""


def connect_read_only(path: str) -> sqlite3.Connection:
    """Open the state file for reading. Nothing is changed, so it works on a read-only disk.

    Raises:
        NoStateFile: it does not exist.
        StoreError: it cannot be read.
    """
    if not os.path.isfile(path):
        hint = other_state_file_hint(path) or "run a workflow first, or name another file with --db"
        if os.path.exists(path):
            raise StoreError(f"{path}: is not a file; {hint}")
        raise NoStateFile(os.path.abspath(path), hint)
    quoted = quote_path(os.path.abspath(path))
    with _opening, translated_errors(path):
        connection = _open_uri(f"file:{quoted}?mode=ro")
        try:
            try:
                version = check_schema(connection, path)
            except sqlite3.OperationalError as error:
                name = getattr(error, "sqlite_errorname", "")
                if name == "SQLITE_READONLY_ROLLBACK" and os.path.getsize(path) <= _ONE_PAGE:
                    # The process that created the file was killed. SQLite needs a writable connection to roll it back.
                    connection.close()
                    _roll_back(path)
                    return connect_read_only(path)
                # SQLite cannot create a write-ahead log on a read-only disk; a file without one is complete.
                folder = os.path.dirname(os.path.abspath(path))
                if os.access(folder, os.W_OK, effective_ids=True) or os.path.exists(f"{path}-wal"):
                    raise
                connection.close()
                connection = _open_uri(f"file:{quoted}?immutable=1")
                version = check_schema(connection, path)
            if version == 0:
                raise RunNotFound(f"{path}: holds no runs; run a workflow first, or name another file with --db")
            read_as_newest(connection, version)
            connection.execute("PRAGMA query_only=ON")
        except BaseException:
            connection.close()
            raise
    return connection


def _roll_back(path: str) -> None:
    """Roll back a transaction whose writer was killed before the file had a write-ahead log."""
    connection = sqlite3.connect(path, timeout=_BUSY_MS / 1000, isolation_level=None)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    finally:
        connection.close()


def _open_uri(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri, uri=True, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False, factory=_Connection
    )
    _settings(connection)
    return connection


def _settings(connection: sqlite3.Connection) -> None:
    for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "temp_store=MEMORY", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    connection.text_factory = _text


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")  # a damaged file must not raise within a fetch


@contextlib.contextmanager
def translated_errors(path: str) -> Iterator[None]:
    """Raise errors of SQLite as Lightflow's, with the name of the file and what to do."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise explain(error, path) from None


def explain(error: sqlite3.Error | UnicodeDecodeError, path: str) -> LiteflowError:
    """Return the error that says what an error of SQLite means to a user."""
    if isinstance(error, UnicodeDecodeError):  # the name of a column, or a message of SQLite: not decoded by `_text`
        return CorruptDatabase(f"{path}: is damaged and was left as it is; keep a copy, use another --db")
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreError(f"{path}: locked by another program for too long; try again when it is done")
    if name == "SQLITE_FULL":
        return ResourceError(f"{path}: the disk is full; free some space, then resume the run")
    if name.startswith("SQLITE_IOERR"):
        return ResourceError(f"{path}: the disk reported an error ({name}); nothing false was stored")
    if name == "SQLITE_NOTADB":
        return ForeignDatabase(f"{path}: is not a SQLite database; choose another file with --db")
    if name.startswith("SQLITE_CORRUPT") or "malformed" in str(error):
        return CorruptDatabase(f"{path}: is damaged ({error}) and was left as it is; keep a copy, use another --db")
    if name.startswith("SQLITE_READONLY"):
        return StoreError(f"{path}: cannot be written to (read-only file or folder){ownership_hint(path)}")
    if name.startswith("SQLITE_CANTOPEN"):
        length = len(os.fsencode(os.path.realpath(path)))
        if length > _LONGEST_PATH:
            return StoreError(
                f"{path}: is {length} bytes long, and SQLite takes {_LONGEST_PATH}; "
                "name a file with a shorter path with --db (db_path in Python)"
            )
        reason = ownership_hint(path) or "; check that its folder exists and that you may write there"
        return StoreError(f"{path}: cannot be opened{reason}")
    if type(error) is sqlite3.DatabaseError:
        return CorruptDatabase(f"{path}: cannot be read ({error})")
    return StoreError(f"{path}: {error}")


def current_folder() -> str:
    """Return the path of the current folder. Raises DefinitionError where it no longer exists."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise DefinitionError("the current folder no longer exists: change to one that does") from None


def real_path(path: str) -> str:
    """Return the absolute path of a state file, through all links. Raises DefinitionError: see `current_folder`."""
    return os.path.realpath(path if os.path.isabs(path) else os.path.join(current_folder(), path))


def files_of(path: str) -> tuple[Identity | None, ...]:
    """Return the identities of a state file, its write-ahead log and the index of that, without opening them."""
    return tuple(identity(f"{path}{end}") for end in ENDS)


def checkpoint_wal(
    connection: sqlite3.Connection, path: str, locks: LockFile, *, at_least: int = _CHECKPOINT_BYTES
) -> None:
    """Copy the write-ahead log into the database when it has grown to `at_least` bytes, unless another process writes.

    To be called between transactions.
    """
    try:
        if os.stat(f"{path}-wal").st_size < at_least or not locks.acquire(WRITE_LOCK):
            return
    except OSError:
        return
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    except sqlite3.Error:
        pass  # the log grows until the next call
    finally:
        locks.release(WRITE_LOCK)


class _Connection(sqlite3.Connection):
    """A connection that binds any text: characters that UTF-8 cannot express, as in old file names, are escaped."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        try:
            return super().execute(sql, parameters)
        except UnicodeEncodeError:  # nothing was done yet
            if isinstance(parameters, Mapping):
                return super().execute(sql, {name: _storable(value) for name, value in parameters.items()})
            return super().execute(sql, [_storable(value) for value in parameters])


def _storable(value: Any) -> Any:
    return storable(value) if isinstance(value, str) else value


def storable(text: str) -> str:
    """Return a text as it is stored; `History` restores paths."""
    return text.encode("utf-8", "backslashreplace").decode()


class Transaction:
    """BEGIN IMMEDIATE … COMMIT under the write lock; an exception rolls back.

    SQLite's own lock is dropped when other code of this process closes a descriptor of the file during a transaction,
    and before SQLite 3.51.3 two connections that write and checkpoint at the same moment can damage a file. The write
    lock keeps writers and checkpoints apart in both cases.
    """

    __slots__ = ("_connection", "_locks")

    def __init__(self, connection: sqlite3.Connection, locks: LockFile) -> None:
        self._connection = connection
        self._locks = locks

    def __enter__(self) -> None:
        if not self._locks.acquire_within(WRITE_LOCK, _BUSY_MS / 1000):
            busy = sqlite3.OperationalError("database is locked")
            busy.sqlite_errorname = "SQLITE_BUSY"
            raise busy
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except BaseException:
            self._locks.release(WRITE_LOCK)
            raise

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: object) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._locks.release(WRITE_LOCK)
