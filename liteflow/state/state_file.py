"""Opening the state file, and saying in plain words what SQLite refused.

Never `open()` the database, its -wal or its -shm file by hand in a process that has it open in SQLite: closing that
descriptor would drop SQLite's locks.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from typing import Any, Final

from liteflow.errors import (
    CorruptDatabase,
    DefinitionError,
    ForeignDatabase,
    LiteflowError,
    ResourceError,
    RunNotFound,
    StoreError,
)
from liteflow.state.locks import LockFile, whose
from liteflow.state.schema import check_schema, migrate, new_file, quote_path, read_as_newest, use_wal
from liteflow.state.sqlite_locks import Identity, identity

_BUSY_MS: Final = 5000
_CACHE_KIB: Final = 16384  # pages that are not in here are read again from the file, by every commit of a large run
_FOLD_BYTES: Final = 4 * 1024 * 1024  # of write-ahead log
_LONGEST_PATH: Final = 511  # bytes
_ONE_PAGE: Final = 65536  # the largest page there is: a file of ours has one before it has a write-ahead log
#: Held while a file is made and while a reader opens one: in the process that has them, closing any descriptor of a
#: database drops all of SQLite's locks on it.
_opening = threading.RLock()
#: the byte of the lock file that whoever writes or checkpoints holds; bytes from 1 are runs
WRITE_LOCK: Final = 0
#: the ends of the names of the files that are the state file together, while it is open
ENDS: Final = ("", "-wal", "-shm")


def _after_fork() -> None:
    global _opening
    _opening = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


def connect(path: str) -> sqlite3.Connection:
    """Open (and make, or bring up to date) the state file for writing. Autocommit; writes say BEGIN IMMEDIATE.

    Raises:
        StoreError: it cannot be opened, is not ours, is damaged, or is newer than this version.
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
            connection.execute("PRAGMA journal_size_limit=67108864")
        except BaseException:
            connection.close()
            raise
    return connection


def _make(path: str) -> None:
    """Put a state file without runs in its place: the whole of it or, after a crash, nothing; never over another.

    It is for its owner alone, as it holds parameters and values; SQLite gives its -wal and -shm the same mode. Where
    the file system knows no nameless files, an empty file is all there is, and SQLite does the rest. Why none can be
    made at all, SQLite says when it opens it.
    """
    try:
        handle = os.open(os.path.dirname(path) or ".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            with open(handle, "wb", closefd=False) as file:
                file.write(new_file())
            os.fsync(handle)
            os.link(f"/proc/self/fd/{handle}", path, src_dir_fd=handle)  # given one, it follows that link
        finally:
            os.close(handle)
    except (OSError, AttributeError):
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


#: The state files that the two programs take where none is named.
_BY_DEFAULT = {"liteflow.db": "Python scripts", "lightflow.db": "`lightflow run`"}


def other_state_file_hint(path: str) -> str:
    """What to say of the other program's state file, where it lies beside the one that is missing."""
    folder, name = os.path.split(path)
    for other, writer in _BY_DEFAULT.items():
        if name in _BY_DEFAULT and name != other and os.path.isfile(os.path.join(folder, other)):
            return f"{other}, where {writer} keeps its runs, is there: --db {os.path.join(folder, other)}"
    return ""


def connect_read_only(path: str) -> sqlite3.Connection:
    """Open the state file for reading; changes nothing, not even where it lies on a read-only disk.

    Raises:
        StoreError: there is none, or it cannot be read.
    """
    if not os.path.isfile(path):
        kind = "is not a file" if os.path.exists(path) else "no such state file"
        raise StoreError(
            f"{path}: {kind}; {other_state_file_hint(path) or 'run a workflow first, or name another file with --db'}"
        )
    quoted = quote_path(os.path.abspath(path))
    with _opening, translated_errors(path):
        connection = _open_uri(f"file:{quoted}?mode=ro")
        try:
            try:
                version = check_schema(connection, path)
            except sqlite3.OperationalError as error:
                name = getattr(error, "sqlite_errorname", "")
                if name == "SQLITE_READONLY_ROLLBACK" and os.path.getsize(path) <= _ONE_PAGE:
                    # Whoever made the file was killed at it: SQLite undoes that, but only for one who may write.
                    connection.close()
                    _roll_back(path)
                    return connect_read_only(path)
                # A write-ahead log cannot be set up on a read-only disk; without one the file is complete.
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
    """Have SQLite undo a transaction whose writer was killed before the file had a write-ahead log."""
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
    return raw.decode("utf-8", "replace")  # a damaged file must not raise from inside a fetch


@contextlib.contextmanager
def translated_errors(path: str) -> Iterator[None]:
    """Turn SQLite's errors into ours, with the file's name and the next step."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise explain(error, path) from None


def explain(error: sqlite3.Error | UnicodeDecodeError, path: str) -> LiteflowError:
    """The error of ours that says what SQLite's error means to a user."""
    if isinstance(error, UnicodeDecodeError):  # the name of a column, or SQLite's message about one: not asked `_text`
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
        return StoreError(f"{path}: cannot be written to (read-only file or folder){whose(path)}")
    if name.startswith("SQLITE_CANTOPEN"):
        length = len(os.fsencode(os.path.realpath(path)))
        if length > _LONGEST_PATH:
            return StoreError(
                f"{path}: is {length} bytes long, and SQLite takes {_LONGEST_PATH}; "
                "name a file with a shorter path with --db (db_path in Python)"
            )
        reason = whose(path) or "; does its folder exist, and may you write there?"
        return StoreError(f"{path}: cannot be opened{reason}")
    if type(error) is sqlite3.DatabaseError:
        return CorruptDatabase(f"{path}: cannot be read ({error})")
    return StoreError(f"{path}: {error}")


def current_folder() -> str:
    """Return the path of the current folder. Raises DefinitionError where it does not exist any more."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise DefinitionError("the current folder does not exist any more: change to one that does") from None


def real_path(path: str) -> str:
    """Return the absolute path of a state file, through all links. Raises DefinitionError: see `current_folder`."""
    return os.path.realpath(path if os.path.isabs(path) else os.path.join(current_folder(), path))


def files_of(path: str) -> tuple[Identity | None, ...]:
    """Which files a state file, its write-ahead log and the index of that are; never by opening them (see above)."""
    return tuple(identity(f"{path}{end}") for end in ENDS)


def checkpoint_wal(connection: sqlite3.Connection, path: str, locks: LockFile) -> None:
    """Fold the write-ahead log into the database when it has grown, if nobody is writing; between transactions."""
    try:
        if os.stat(f"{path}-wal").st_size < _FOLD_BYTES or not locks.acquire(WRITE_LOCK):
            return
    except OSError:
        return
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    except sqlite3.Error:
        pass  # the log only grows a little further
    finally:
        locks.release(WRITE_LOCK)


class _Connection(sqlite3.Connection):
    """Binds any text: letters that UTF-8 cannot express (of old file names, or halves of pairs) are escaped."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        try:
            return super().execute(sql, parameters)
        except UnicodeEncodeError:  # nothing was done yet
            return super().execute(sql, [storable(one) if isinstance(one, str) else one for one in parameters])


def storable(text: str) -> str:
    """A text as it is stored; see `History` for paths, which have to be found again."""
    return text.encode("utf-8", "backslashreplace").decode()


class Transaction:
    """BEGIN IMMEDIATE … COMMIT under the write lock; rolls back whatever is raised inside.

    SQLite's own lock of a writer is dropped when other code of this process closes a descriptor of the file in the
    midst of a transaction; and before SQLite 3.51.3 two connections that write and checkpoint at the same instant can
    damage a file. This lock of ours keeps writers and checkpoints apart in any case.
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
