"""The tables of the state file, as numbered migrations. Only DDL and its application live here.

Migrations go forward only; each is applied in one transaction together with the version number, so a crash leaves
the old schema or the new one. `application_id` marks the file as ours, `user_version` is the schema's number.
Statuses have no CHECK: the set of words may grow without a migration.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import time
from collections.abc import Sequence
from typing import Final

from liteflow.errors import CorruptDatabase, NotOurs, SchemaTooNew, StoreError

APPLICATION_ID: Final = 0x4C466C77  # "LFlw"
_SWITCH_S: Final = 5.0
_PREFIX: Final = "liteflow_"  # of all names of ours

_V1: Final = """
CREATE TABLE liteflow_dags (
  dag_id      TEXT NOT NULL PRIMARY KEY,
  description TEXT NOT NULL DEFAULT '',
  source      TEXT,                          -- the file it was last run from
  created_at  REAL NOT NULL,
  updated_at  REAL NOT NULL
) STRICT;

CREATE TABLE liteflow_graphs (               -- shared by all runs of an unchanged definition
  digest      TEXT NOT NULL PRIMARY KEY,
  snapshot    TEXT NOT NULL                  -- JSON: tasks with kind, dependencies, rule, digest
) STRICT;

CREATE TABLE liteflow_dag_runs (
  run_no        INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused: also the byte of the lock file that the owner holds
  run_id        TEXT NOT NULL UNIQUE,
  dag_id        TEXT NOT NULL,
  status        TEXT NOT NULL,
  created_at    REAL NOT NULL,
  started_at    REAL,
  ended_at      REAL,
  logical_date  REAL,
  parent_run_id TEXT,
  params        TEXT NOT NULL DEFAULT '{}',  -- JSON
  graph_digest  TEXT NOT NULL REFERENCES liteflow_graphs (digest),
  source        TEXT,                        -- the file it came from, absolute
  cwd           TEXT,                        -- the folder it was started in
  settings      TEXT NOT NULL DEFAULT '{}',  -- JSON: mode, max_workers, log_dir …
  epoch         INTEGER NOT NULL DEFAULT 0,  -- rises with every owner; each write checks it
  owner_pid     INTEGER,
  owner_start   INTEGER,                     -- kernel ticks, so that a reused pid is not taken for the owner
  owner_boot    TEXT,
  owner_host    TEXT,
  owner_session INTEGER,                     -- marks the owner's processes (see processes.tree)
  resumable     INTEGER NOT NULL DEFAULT 1,  -- 0: "resume the latest" passes it over
  reason        TEXT
) STRICT;
CREATE INDEX liteflow_runs_by_dag ON liteflow_dag_runs (dag_id, run_no);
CREATE INDEX liteflow_runs_by_graph ON liteflow_dag_runs (graph_digest); -- to delete a run: has another its graph?

CREATE TABLE liteflow_task_instances (       -- the current view
  run_id       TEXT NOT NULL,
  task_id      TEXT NOT NULL,
  map_index    INTEGER NOT NULL DEFAULT -1,
  status       TEXT NOT NULL,
  dependencies TEXT NOT NULL DEFAULT '[]',   -- JSON list of task ids
  timeout      REAL,
  try_number   INTEGER NOT NULL DEFAULT 0,
  error_log    TEXT,
  reason       TEXT,
  started_at   REAL,                         -- of the last attempt, as are the next two
  ended_at     REAL,
  log_path     TEXT,                         -- while it runs: where its output goes, once there is some
  updated_at   REAL NOT NULL,
  PRIMARY KEY (run_id, task_id, map_index)
) STRICT, WITHOUT ROWID;

CREATE TABLE liteflow_attempts (             -- append-only history: a row is written when an attempt has ended
  run_id     TEXT NOT NULL,
  task_id    TEXT NOT NULL,
  map_index  INTEGER NOT NULL DEFAULT -1,
  attempt    INTEGER NOT NULL,
  status     TEXT NOT NULL,
  epoch      INTEGER NOT NULL,
  started_at REAL NOT NULL,
  ended_at   REAL NOT NULL,
  exit_code  INTEGER,                        -- of a command; -N: killed by signal N
  error      TEXT,
  log_path   TEXT,                           -- NULL: there was no output
  PRIMARY KEY (run_id, task_id, map_index, attempt)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX liteflow_one_success
  ON liteflow_attempts (run_id, task_id, map_index) WHERE status = 'SUCCESS';
CREATE TRIGGER liteflow_attempt_is_final BEFORE UPDATE ON liteflow_attempts
  BEGIN SELECT RAISE(ABORT, 'an attempt that has ended cannot change'); END;

CREATE TABLE liteflow_xcom (
  run_id     TEXT NOT NULL,
  task_id    TEXT NOT NULL,
  map_index  INTEGER NOT NULL DEFAULT -1,
  key        TEXT NOT NULL,
  encoding   TEXT NOT NULL,                  -- json | tagged | pickle
  value      ANY,                            -- JSON text, or bytes of a pickle; NULL when in a file
  size       INTEGER NOT NULL,
  file       TEXT,                           -- below <database>_xcom/
  sha256     TEXT,
  created_at REAL NOT NULL,
  PRIMARY KEY (run_id, task_id, map_index, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE liteflow_events (               -- written with the change it tells of
  seq       INTEGER PRIMARY KEY,
  run_id    TEXT NOT NULL,
  task_id   TEXT,                            -- NULL: about the run
  map_index INTEGER,
  attempt   INTEGER,
  previous  TEXT,
  status    TEXT NOT NULL,
  reason    TEXT,
  at        REAL NOT NULL
) STRICT;
CREATE INDEX liteflow_events_by_run ON liteflow_events (run_id, seq);

CREATE TABLE liteflow_requests (             -- how other processes ask the owner of a run for something
  request_no INTEGER PRIMARY KEY,
  run_id     TEXT NOT NULL,
  action     TEXT NOT NULL,                  -- cancel
  detail     TEXT,
  created_at REAL NOT NULL,
  handled_at REAL
) STRICT;
CREATE INDEX liteflow_requests_by_run ON liteflow_requests (run_id, handled_at);
"""

_V2: Final = """
CREATE TABLE liteflow_pools (                -- slots that all runs of this file share
  name        TEXT NOT NULL PRIMARY KEY,
  slots       INTEGER NOT NULL,
  description TEXT NOT NULL DEFAULT '',
  by_hand     INTEGER NOT NULL DEFAULT 0,    -- 1: set by a command, so what workflows declare does not change it
  updated_at  REAL NOT NULL
) STRICT;

CREATE TABLE liteflow_slots (                -- who holds some, or waits; of no meaning where the run has no live owner
  run_no      INTEGER NOT NULL,
  task_id     TEXT NOT NULL,                 -- empty: the run itself, for its place in a group
  map_index   INTEGER NOT NULL,
  pool        TEXT NOT NULL,                 -- its name, or run:GROUP
  run_id      TEXT NOT NULL,
  slots       INTEGER NOT NULL,
  asked_at    REAL NOT NULL,
  taken_at    REAL,                          -- NULL: it waits
  passed      INTEGER NOT NULL DEFAULT 0,    -- how many have gone before it meanwhile
  PRIMARY KEY (run_no, task_id, map_index, pool)
) STRICT, WITHOUT ROWID;

ALTER TABLE liteflow_task_instances ADD COLUMN map_key TEXT; -- what people can tell an instance of a mapped task by
ALTER TABLE liteflow_task_instances ADD COLUMN told TEXT;    -- NULL: a task; else a hook, and what it is told (JSON)
ALTER TABLE liteflow_attempts ADD COLUMN repeats INTEGER NOT NULL DEFAULT 0; -- 1: may succeed more than once (hooks …)
DROP INDEX liteflow_one_success;
CREATE UNIQUE INDEX liteflow_one_success
  ON liteflow_attempts (run_id, task_id, map_index) WHERE status = 'SUCCESS' AND NOT repeats;
"""

_V3: Final = """
ALTER TABLE liteflow_task_instances ADD COLUMN item TEXT;        -- a digest of the item of an instance
ALTER TABLE liteflow_task_instances ADD COLUMN position INTEGER; -- the place of that item in the list
ALTER TABLE liteflow_attempts ADD COLUMN trace TEXT; -- of a Python exception: where in the user's code it arose (JSON)
ALTER TABLE liteflow_attempts ADD COLUMN log_lost TEXT; -- why not all of its output is in the log
ALTER TABLE liteflow_dag_runs ADD COLUMN begun INTEGER; -- rises with each start and resume of a run of this file
CREATE INDEX liteflow_runs_by_begun ON liteflow_dag_runs (begun);
"""

#: What makes an older file read like one of the newest version, for a process that may not change it.
_V1_AS_NEWEST: Final = """
CREATE TEMP VIEW liteflow_task_instances AS
  SELECT *, NULL AS map_key, NULL AS told, NULL AS item, NULL AS position FROM main.liteflow_task_instances;
CREATE TEMP VIEW liteflow_attempts AS SELECT *, NULL AS trace, NULL AS log_lost FROM main.liteflow_attempts;
CREATE TEMP VIEW liteflow_dag_runs AS SELECT *, NULL AS begun FROM main.liteflow_dag_runs;
CREATE TEMP TABLE liteflow_pools (name, slots, description, by_hand, updated_at);
CREATE TEMP TABLE liteflow_slots (pool, run_id, task_id, map_index, slots, asked_at, taken_at, run_no);
"""

_V2_AS_NEWEST: Final = """
CREATE TEMP VIEW liteflow_task_instances AS
  SELECT *, NULL AS item, NULL AS position FROM main.liteflow_task_instances;
CREATE TEMP VIEW liteflow_attempts AS SELECT *, NULL AS trace, NULL AS log_lost FROM main.liteflow_attempts;
CREATE TEMP VIEW liteflow_dag_runs AS SELECT *, NULL AS begun FROM main.liteflow_dag_runs;
"""

#: The values of a mapped task's instances under one key, in the order of its list.
VALUES_OF_INSTANCES: Final = (
    "SELECT x.encoding, x.value, x.size, x.file, x.sha256 FROM liteflow_xcom AS x "
    "LEFT JOIN liteflow_task_instances AS i USING (run_id, task_id, map_index) "
    "WHERE x.run_id=? AND x.task_id=? AND x.map_index>=0 AND x.key=? ORDER BY coalesce(i.position, x.map_index)"
)

MIGRATIONS: Final[tuple[str, ...]] = (_V1, _V2, _V3)
_AS_NEWEST: Final[tuple[str, ...]] = (_V1_AS_NEWEST, _V2_AS_NEWEST)
SCHEMA_VERSION: Final = len(MIGRATIONS)


def check_schema(connection: sqlite3.Connection, path: str) -> int:
    """The schema's number in an open database; 0 for one without tables.

    Raises:
        NotOurs: the database holds another program's tables.
        CorruptDatabase: it is ours, and its number cannot be right, or its tables are not.
        SchemaTooNew: a newer version of this program wrote it.
    """
    # One statement sees one state: another process may be making the tables at this moment.
    rows = connection.execute(
        "SELECT application_id, user_version, type, name, tbl_name, sql "
        "FROM pragma_application_id, pragma_user_version LEFT JOIN sqlite_schema ON true"
    ).fetchall()
    application, version, kind, *_ = rows[0]
    if application != APPLICATION_ID:
        if application or version or kind is not None:
            raise NotOurs(f"{path}: this SQLite database belongs to another program; choose another file with --db")
        return 0
    if version < 1:  # it is written together with what marks the file as ours
        raise CorruptDatabase(
            f"{path}: is damaged (its schema cannot be {version}) and was left as it is; keep a copy, use another --db"
        )
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"{path}: written by a newer version (its schema is {version}, this version knows {SCHEMA_VERSION}); "
            "upgrade lightflow, or choose another file with --db"
        )
    other = difference(version, [row[2:] for row in rows])
    if other is not None:
        raise CorruptDatabase(
            f"{path}: its tables are not those of Lightflow ({other}), and it was left as it is; use another --db"
        )
    return int(version)


def difference(version: int, rows: Sequence[Sequence[str | None]]) -> str | None:
    """The name of something in `sqlite_schema` (type, name, tbl_name, sql) that should not be there, or is missing.

    A view or a trigger in the place of a table could compute without end, or change what is written. What people add
    beside our tables, and indexes, which can do neither, are no matter; nor is a trigger or an index that is missing.
    """
    expected = dict(_shape(version))
    for kind, name, table, sql in rows:
        lower = str(name).lower()
        ours = lower.startswith(_PREFIX) or (kind == "trigger" and str(table).lower().startswith(_PREFIX))
        if not ours or (kind == "index" and lower not in expected):
            continue
        if expected.pop(lower, None) != (kind, _plain(str(sql))):
            return lower if lower.startswith(_PREFIX) else f"a trigger of {str(table).lower()}"
    return next((f"{name} is missing" for name, (kind, _) in expected.items() if kind == "table"), None)


@functools.cache
def _shape(version: int) -> dict[str, tuple[str, str]]:
    """What the tables, indexes and triggers of a version are: type and definition by name."""
    made: dict[str, tuple[str, str]] = {}
    for statement in (one for script in MIGRATIONS[:version] for one in _statements(script)):
        verb, *words = statement.split(None, 5)
        kind = next(word for word in words if word in ("TABLE", "INDEX", "TRIGGER"))
        name = words[words.index(kind) + 1].rstrip(";")
        text = _plain(statement).removesuffix(";")
        if verb == "CREATE":
            made[name] = (kind.lower(), text)
        elif verb == "DROP":
            del made[name]
        else:  # SQLite puts a new column behind the last one, before what is said of the whole table
            table = made[name][1]
            before, last, behind = table.rpartition(",PRIMARYKEY(" if ",PRIMARYKEY(" in table else ")")
            made[name] = (kind.lower(), f"{before},{text.partition('ADDCOLUMN')[2]}{last}{behind}")
    return made


@functools.lru_cache(maxsize=256)
def _plain(sql: str) -> str:
    """A definition without blanks and comments, in which versions may differ."""
    return "".join("".join(line.partition("--")[0].split()) for line in sql.splitlines())


def read_as_newest(connection: sqlite3.Connection, version: int) -> None:
    """Let an open database of an older schema be read as one of the newest, without changing it."""
    for script in _AS_NEWEST[version - 1 : version]:
        for statement in _statements(script):
            connection.execute(statement)


def use_wal(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log. Where two processes do so at the same instant, SQLite refuses one without waiting.

    Raises:
        sqlite3.OperationalError: another program keeps the file locked.
    """
    give_up = time.monotonic() + _SWITCH_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            busy = getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
            if not busy or time.monotonic() >= give_up:
                raise
            time.sleep(0.005)


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring an open, writable database to the newest schema; a no-op when it is there already.

    Raises:
        NotOurs, SchemaTooNew: see `check_schema`.
        sqlite3.Error: SQLite refused; the old schema stands.
    """
    version = check_schema(connection, path)
    if version == SCHEMA_VERSION:
        return
    if version == 0:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # as in `new_file`
    use_wal(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = check_schema(connection, path)  # again, now that nobody else can be at it
        if 0 < version < SCHEMA_VERSION:
            _back_up(path, version)
        _apply(connection, version)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _apply(connection: sqlite3.Connection, version: int) -> None:
    for number in range(version, SCHEMA_VERSION):
        for statement in _statements(MIGRATIONS[number]):
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def new_file() -> bytes:
    """The bytes of a state file without runs, in write-ahead mode.

    Written in one piece, such a file costs one sync; SQLite takes six to make it step by step.

    Raises:
        AttributeError: this SQLite cannot tell.
    """
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # what is deleted can be given back to the disk
        connection.execute("BEGIN")
        _apply(connection, 0)
        connection.execute("COMMIT")
        image = bytearray(connection.serialize())
    finally:
        connection.close()
    image[18:20] = b"\2\2"  # https://www.sqlite.org/fileformat.html#file_format_version_numbers
    return bytes(image)


def _back_up(path: str, version: int) -> None:
    """Copy the database as it was before a migration, beside it, by SQLite itself (never by copying the file)."""
    target = f"{path}.v{version}.bak"
    if os.path.lexists(target):
        raise StoreError(f"{target}: is in the way of the backup made before an upgrade; move it elsewhere")
    source = sqlite3.connect(f"file:{quote_path(path)}?mode=ro", uri=True)
    try:
        source.execute("VACUUM INTO ?", (f"file:{quote_path(target)}",))  # a URI, as that of the source
    finally:
        source.close()


def _statements(script: str) -> list[str]:
    """Split a script where SQLite says a statement is complete (a trigger holds semicolons of its own)."""
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if current.strip() and sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements


def quote_path(path: str) -> str:
    """A path as part of a SQLite URI (`urllib.parse`, which does more, takes 5 ms to import)."""
    path = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    if path.isascii():
        return path
    return "".join(chr(byte) if byte < 128 else f"%{byte:02x}" for byte in os.fsencode(path))
