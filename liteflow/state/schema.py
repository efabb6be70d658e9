"""The tables of the state file, as numbered migrations.

Migrations go forward only; an upgrade is one transaction together with the version number, so a crash leaves the old
schema or the new one. `application_id` marks the file as Lightflow's, `user_version` is the number of the schema.
Statuses have no CHECK: new words need no migration.
"""

from __future__ import annotations

import functools
import os
import re
import sqlite3
import time
from collections.abc import Sequence
from typing import Final

from liteflow.errors import CorruptDatabase, ForeignDatabase, SchemaTooNew, StoreError

APPLICATION_ID: Final = 0x4C466C77  # "LFlw"
_SWITCH_S: Final = 5.0
_PREFIX: Final = "liteflow_"  # of the names of all tables, indexes and triggers

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
  by_hand     INTEGER NOT NULL DEFAULT 0,    -- 1: set by a command; declarations of workflows do not change it
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
ALTER TABLE liteflow_task_instances ADD COLUMN kind TEXT NOT NULL DEFAULT 'task'; -- or group, entry, hook, precondition
ALTER TABLE liteflow_task_instances ADD COLUMN tolerated INTEGER NOT NULL DEFAULT 0; -- 1: FAILED, counts as SUCCESS
ALTER TABLE liteflow_task_instances ADD COLUMN round INTEGER NOT NULL DEFAULT 0; -- rises when a success is reset
ALTER TABLE liteflow_task_instances ADD COLUMN settled INTEGER NOT NULL DEFAULT 0; -- 1: a resume does not run it
ALTER TABLE liteflow_task_instances ADD COLUMN handle TEXT;      -- JSON: what a waiting instance waits for
ALTER TABLE liteflow_task_instances ADD COLUMN wake_at REAL;     -- when it is polled next
ALTER TABLE liteflow_task_instances ADD COLUMN host TEXT;        -- that runs its attempt; NULL: the owner's
ALTER TABLE liteflow_task_instances RENAME COLUMN told TO hook_events; -- NULL: a task; else a list of events (JSON)
UPDATE liteflow_task_instances SET kind = CASE substr(hook_events, 1, 15)
  WHEN '[["precondition' THEN 'precondition' ELSE 'hook' END WHERE hook_events IS NOT NULL;
UPDATE liteflow_task_instances SET tolerated = 1
  WHERE status = 'FAILED' AND reason LIKE '%the run goes on as if it had succeeded (continue_on_error)';

ALTER TABLE liteflow_attempts ADD COLUMN trace TEXT;    -- of a Python exception: where in the user's code it arose
ALTER TABLE liteflow_attempts ADD COLUMN log_lost TEXT; -- why the log does not hold all of its output
ALTER TABLE liteflow_attempts ADD COLUMN round INTEGER NOT NULL DEFAULT 0; -- that of the instance
ALTER TABLE liteflow_attempts ADD COLUMN codes TEXT;    -- JSON list of error codes, such as http:503; NULL: none
ALTER TABLE liteflow_attempts ADD COLUMN host TEXT;     -- the machine it ran on; NULL: that of the owner
DROP INDEX liteflow_one_success;
CREATE UNIQUE INDEX liteflow_one_success
  ON liteflow_attempts (run_id, task_id, map_index, round) WHERE status = 'SUCCESS' AND NOT repeats;

ALTER TABLE liteflow_dag_runs ADD COLUMN start_no INTEGER; -- rises with each start and resume of a run of this file
ALTER TABLE liteflow_dag_runs ADD COLUMN timed_out INTEGER NOT NULL DEFAULT 0; -- 1: it exceeded its timeout
ALTER TABLE liteflow_dag_runs ADD COLUMN parent_task_id TEXT; -- the task of the parent run that started it
ALTER TABLE liteflow_dag_runs ADD COLUMN parent_map_index INTEGER;
ALTER TABLE liteflow_dag_runs ADD COLUMN outer_session INTEGER; -- of a child run: the session of the parent's owner
ALTER TABLE liteflow_dag_runs ADD COLUMN origin_run_id TEXT; -- the run that it is a fork of
ALTER TABLE liteflow_dag_runs ADD COLUMN selection TEXT; -- JSON: the selected tasks of a partial run
ALTER TABLE liteflow_dag_runs ADD COLUMN outputs TEXT;   -- JSON: its outputs, once it has succeeded
ALTER TABLE liteflow_dag_runs ADD COLUMN places TEXT;    -- JSON: what its owner knows of the machines of its clusters
UPDATE liteflow_dag_runs SET timed_out = 1 WHERE status = 'FAILED' AND reason LIKE 'timed out after %';
CREATE INDEX liteflow_runs_by_start ON liteflow_dag_runs (start_no);
CREATE INDEX liteflow_runs_by_status ON liteflow_dag_runs (status, dag_id, started_at, ended_at);
CREATE INDEX liteflow_runs_by_parent ON liteflow_dag_runs (parent_run_id) WHERE parent_run_id IS NOT NULL;
ALTER TABLE liteflow_requests ADD COLUMN requested_by TEXT; -- the person or program
CREATE INDEX liteflow_removals ON liteflow_requests (request_no) WHERE action = 'remove_files';
CREATE INDEX liteflow_runs_by_origin ON liteflow_dag_runs (origin_run_id) WHERE origin_run_id IS NOT NULL;

CREATE TABLE liteflow_undos (                -- attempts whose undo is due if their run has no owner, or has failed
  run_id    TEXT NOT NULL,
  task_id   TEXT NOT NULL,
  map_index INTEGER NOT NULL,
  attempt   INTEGER NOT NULL,
  problem   TEXT,                            -- why it has failed; NULL: the attempt has not ended
  host      TEXT,                            -- of a cluster, on which it runs; NULL: the machine of the run
  boot      TEXT,                            -- the name that this host gives itself, and the id of its boot
  PRIMARY KEY (run_id, task_id, map_index, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE liteflow_triggers (             -- what starts runs: schedules, files, webhooks, other workflows
  trigger_id TEXT NOT NULL PRIMARY KEY,
  dag_id     TEXT NOT NULL,
  source     TEXT,                           -- the file that declares it
  kind       TEXT NOT NULL,
  spec       TEXT NOT NULL,                  -- JSON
  digest     TEXT NOT NULL,                  -- of the specification
  watermark  TEXT,                           -- the key of the last fire that was decided
  next_at    REAL,
  paused_at  REAL,                           -- NULL: it is active
  paused_by  TEXT,
  seen_at    REAL NOT NULL,                  -- when its file was last read
  problem    TEXT                            -- why it cannot fire
) STRICT;
CREATE INDEX liteflow_triggers_by_dag ON liteflow_triggers (dag_id);

CREATE TABLE liteflow_fires (                -- each occasion on which a trigger fired
  fire_no    INTEGER PRIMARY KEY AUTOINCREMENT,
  trigger_id TEXT NOT NULL,
  key        TEXT NOT NULL,                  -- what makes it unique: the instant, the file, the delivery
  at         REAL NOT NULL,
  due_at     REAL,
  status     TEXT NOT NULL,
  run_id     TEXT UNIQUE,
  params     TEXT,                           -- JSON
  selection  TEXT,                           -- JSON: the tasks that are to run; NULL: all
  started_by TEXT,
  reason     TEXT,
  claimed_at REAL,
  decided_at REAL,
  UNIQUE (trigger_id, key)
) STRICT;
CREATE INDEX liteflow_fires_by_status ON liteflow_fires (status, trigger_id, fire_no);

CREATE TABLE liteflow_files (                -- digests of input files, so that unchanged files are not read again
  path TEXT NOT NULL PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
  inode INTEGER NOT NULL, device INTEGER NOT NULL, sha256 BLOB NOT NULL, hashed_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE liteflow_cache (                -- results of tasks by the fingerprint of what they depend on
  dag_id      TEXT NOT NULL,
  task_id     TEXT NOT NULL,
  fingerprint BLOB NOT NULL,
  run_id      TEXT NOT NULL,
  parts       TEXT NOT NULL,                 -- JSON: digests of the parts of the fingerprint, by name
  outputs     TEXT,                          -- JSON: paths and digests of output files
  stored      TEXT,                          -- JSON: the values
  made_at     REAL NOT NULL,
  used_at     REAL NOT NULL,
  expires_at  REAL,
  PRIMARY KEY (dag_id, task_id, fingerprint)
) STRICT, WITHOUT ROWID;

CREATE TABLE liteflow_state (                -- values of a workflow that outlive its runs
  scope      TEXT NOT NULL,
  key        TEXT NOT NULL,
  value      TEXT NOT NULL,
  version    INTEGER NOT NULL,
  updated_at REAL NOT NULL,
  expires_at REAL,
  run_id     TEXT,
  task_id    TEXT,
  PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE liteflow_backfills (            -- runs for past dates that were asked for together
  backfill_no INTEGER PRIMARY KEY,
  dag_id      TEXT NOT NULL,
  settings    TEXT NOT NULL,                 -- JSON
  created_at  REAL NOT NULL,
  ended_at    REAL
) STRICT;
"""

#: Views and empty tables through which a file of an older version, which a reader may not change, reads like one of the
#: newest version. The wording of a reason is all that an older file has of a tolerated failure.
_KIND: Final = (
    "CASE WHEN told IS NULL THEN 'task' WHEN substr(told, 1, 15)='[[\"precondition' THEN 'precondition' ELSE 'hook' END"
)
_TOLERATED: Final = (
    "status='FAILED' AND coalesce(reason, '') LIKE '%the run goes on as if it had succeeded (continue_on_error)'"
)
_NEW_TABLES: Final = """
CREATE TEMP VIEW liteflow_dag_runs AS SELECT *, NULL AS start_no, 0 AS timed_out, NULL AS origin_run_id,
  NULL AS selection, NULL AS parent_task_id, NULL AS parent_map_index, NULL AS outputs, NULL AS places
  FROM main.liteflow_dag_runs;
CREATE TEMP VIEW liteflow_attempts AS SELECT *, NULL AS trace, NULL AS log_lost, 0 AS round, NULL AS codes,
  NULL AS host FROM main.liteflow_attempts;
CREATE TEMP VIEW liteflow_requests AS SELECT *, NULL AS requested_by FROM main.liteflow_requests;
CREATE TEMP TABLE liteflow_fires (run_id, trigger_id, at, started_by);
CREATE TEMP TABLE liteflow_triggers (dag_id, next_at, paused_at, problem);
CREATE TEMP TABLE liteflow_undos (run_id, task_id, map_index, attempt, problem, host, boot);
"""
_V1_AS_NEWEST: Final = f"""
CREATE TEMP VIEW liteflow_task_instances AS
  SELECT *, NULL AS map_key, NULL AS hook_events, NULL AS item, NULL AS position, 'task' AS kind, 0 AS tolerated,
  0 AS round, 0 AS settled, NULL AS handle, NULL AS wake_at, NULL AS host FROM main.liteflow_task_instances;
CREATE TEMP TABLE liteflow_pools (name, slots, description, by_hand, updated_at);
CREATE TEMP TABLE liteflow_slots (pool, run_id, task_id, map_index, slots, asked_at, taken_at, run_no);
{_NEW_TABLES}"""
_V2_AS_NEWEST: Final = f"""
CREATE TEMP VIEW liteflow_task_instances AS
  SELECT *, told AS hook_events, NULL AS item, NULL AS position, {_KIND} AS kind, {_TOLERATED} AS tolerated,
  0 AS round, 0 AS settled, NULL AS handle, NULL AS wake_at, NULL AS host FROM main.liteflow_task_instances;
{_NEW_TABLES}"""

#: Selects the values of the instances of a mapped task under one key, in the order of its list.
INSTANCE_VALUES_SQL: Final = (
    "SELECT x.encoding, x.value, x.size, x.file, x.sha256 FROM liteflow_xcom AS x "
    "LEFT JOIN liteflow_task_instances AS i USING (run_id, task_id, map_index) "
    "WHERE x.run_id=? AND x.task_id=? AND x.map_index>=0 AND x.key=? ORDER BY coalesce(i.position, x.map_index)"
)

#: Selects the parent of a run, the parent of that, and so on.
ANCESTORS_SQL: Final = (
    "WITH RECURSIVE line(run_id, depth) AS (SELECT parent_run_id, 1 FROM liteflow_dag_runs WHERE run_id=? UNION "
    "SELECT parent_run_id, depth + 1 FROM line JOIN liteflow_dag_runs USING (run_id) WHERE depth < 100) "
    "SELECT run_id FROM line WHERE run_id IS NOT NULL ORDER BY depth"
)

MIGRATIONS: Final[tuple[str, ...]] = (_V1, _V2, _V3)
_AS_NEWEST: Final[tuple[str, ...]] = (_V1_AS_NEWEST, _V2_AS_NEWEST)
SCHEMA_VERSION: Final = len(MIGRATIONS)


def check_schema(connection: sqlite3.Connection, path: str) -> int:
    """Return the number of the schema of an open database; 0 when it has no tables.

    Raises:
        ForeignDatabase: the database holds the tables of another program.
        CorruptDatabase: it is marked as Lightflow's, and its number or its tables are wrong.
        SchemaTooNew: a newer version wrote it.
    """
    # One statement, so that it sees one state: another process may be creating the tables.
    rows = connection.execute(
        "SELECT application_id, user_version, type, name, tbl_name, sql "
        "FROM pragma_application_id, pragma_user_version LEFT JOIN sqlite_schema ON true"
    ).fetchall()
    application, version, kind, *_ = rows[0]
    if application != APPLICATION_ID:
        if application or version or kind is not None:
            raise ForeignDatabase(
                f"{path}: this SQLite database belongs to another program; choose another file with --db"
            )
        return 0
    if version < 1:  # it is written in the transaction that marks the file as Lightflow's
        raise CorruptDatabase(
            f"{path}: is damaged (its schema cannot be {version}) and was left as it is; keep a copy, use another --db"
        )
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"{path}: written by a newer version (its schema is {version}, this version knows {SCHEMA_VERSION}); "
            "upgrade lightflow, or choose another file with --db"
        )
    name = difference(version, [row[2:] for row in rows])
    if name is not None:
        raise CorruptDatabase(
            f"{path}: its tables are not those of Lightflow ({name}), and it was left as it is; use another --db"
        )
    return int(version)


def difference(version: int, rows: Sequence[Sequence[str | None]]) -> str | None:
    """Return the name of an unexpected or missing entry of `sqlite_schema` (type, name, tbl_name, sql), or None.

    A view or trigger in place of a table could compute without end, or change what is written. Tables and views that
    users have added, their indexes, and a trigger or index that is missing are ignored.
    """
    expected = dict(_shape(version))
    for kind, name, table, sql in rows:
        lower = str(name).lower()
        belongs_to_liteflow = lower.startswith(_PREFIX) or (
            kind == "trigger" and str(table).lower().startswith(_PREFIX)
        )
        if not belongs_to_liteflow or (kind == "index" and lower not in expected):
            continue
        if expected.pop(lower, None) != (kind, _plain(str(sql))):
            return lower if lower.startswith(_PREFIX) else f"a trigger of {str(table).lower()}"
    return next((f"{name} is missing" for name, (kind, _) in expected.items() if kind == "table"), None)


@functools.cache
def _shape(version: int) -> dict[str, tuple[str, str]]:
    """Return the tables, indexes and triggers of a version: type and definition without blanks, by name."""
    return {name: (kind, _plain(text)) for name, (kind, text) in _definitions(version).items()}


def _definitions(version: int) -> dict[str, tuple[str, str]]:
    """Return the tables, indexes and triggers of a version, each as one statement that creates it: type and SQL.

    SQLite stores the same definition of a table when its columns were added one by one, apart from blanks and comments.
    """
    definitions: dict[str, tuple[str, str]] = {}
    for statement in (statement for script in MIGRATIONS[:version] for statement in _statements(script)):
        verb, *words = statement.split(None, 5)
        if verb == "UPDATE":
            continue
        kind = next(word for word in words if word in ("TABLE", "INDEX", "TRIGGER"))
        name = words[words.index(kind) + 1].rstrip(";")
        text = _without_comments(statement).strip().removesuffix(";")
        if verb == "CREATE":
            definitions[name] = (kind.lower(), text)
        elif verb == "DROP":
            del definitions[name]
        elif "RENAME COLUMN" in text:
            old, new = text.partition("RENAME COLUMN")[2].split(" TO ")
            table = definitions[name][1]
            definitions[name] = (kind.lower(), re.sub(rf"\b{old.strip()}\b", new.strip(), table))
        else:  # SQLite puts a new column after the last one, before the constraints of the table
            table = definitions[name][1]
            before, constraint, after = table.rpartition(",\n  PRIMARY KEY (" if ",\n  PRIMARY KEY (" in table else ")")
            definitions[name] = (kind.lower(), f"{before}, {text.partition('ADD COLUMN')[2]}{constraint}{after}")
    return definitions


@functools.lru_cache(maxsize=256)
def _plain(sql: str) -> str:
    """Return a definition without blanks and comments, in which versions may differ."""
    return "".join(_without_comments(sql).split())


def _without_comments(sql: str) -> str:
    return "\n".join(line.partition("--")[0].rstrip() for line in sql.splitlines())


def read_as_newest(connection: sqlite3.Connection, version: int) -> None:
    """Make an open database of an older schema read like one of the newest, without changing it."""
    for script in _AS_NEWEST[version - 1 : version]:
        for statement in _statements(script):
            connection.execute(statement)


def use_wal(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log. When two processes do so at the same moment, SQLite refuses one without waiting.

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
    """Upgrade an open, writable database to the newest schema, if it has an older one or none.

    Raises:
        ForeignDatabase, SchemaTooNew: see `check_schema`.
        sqlite3.Error: SQLite refused; the old schema stays.
    """
    version = check_schema(connection, path)
    if version == SCHEMA_VERSION:
        return
    if version == 0:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # as in `new_file`
    use_wal(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = check_schema(connection, path)  # again, now that no other process can change it
        if 0 < version < SCHEMA_VERSION:
            _back_up(path, version)
        _apply(connection, version)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _apply(connection: sqlite3.Connection, version: int) -> None:
    """Bring the tables from a version to the newest; a file without tables gets the newest ones at once."""
    statements = [text for script in MIGRATIONS[version:] for text in _statements(script)]
    for statement in statements if version else (text for _, text in _definitions(SCHEMA_VERSION).values()):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def new_file() -> bytes:
    """Return the bytes of a state file without runs, in write-ahead mode.

    A file that is written in one piece needs one sync; SQLite would need six.

    Raises:
        AttributeError: this SQLite cannot serialize.
    """
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # the pages of deleted rows can be given back to the disk
        connection.execute("BEGIN")
        _apply(connection, 0)
        connection.execute("COMMIT")
        image = bytearray(connection.serialize())
    finally:
        connection.close()
    image[18:20] = b"\2\2"  # https://www.sqlite.org/fileformat.html#file_format_version_numbers
    return bytes(image)


def _back_up(path: str, version: int) -> None:
    """Copy the database before a migration to a file next to it, by SQLite itself (never by copying the file)."""
    target = f"{path}.v{version}.bak"
    if os.path.lexists(target):
        raise StoreError(f"{target}: is in the way of the backup made before an upgrade; move it elsewhere")
    source = sqlite3.connect(f"file:{quote_path(path)}?mode=ro", uri=True)
    try:
        source.execute("VACUUM INTO ?", (f"file:{quote_path(target)}",))  # a URI, as that of the source
    finally:
        source.close()


def _statements(script: str) -> list[str]:
    """Split a script into statements where SQLite calls them complete: a trigger contains semicolons."""
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if current.strip() and sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements


def quote_path(path: str) -> str:
    """Return a path as part of a SQLite URI (`urllib.parse` takes 5 ms to import)."""
    path = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    if path.isascii():
        return path
    return "".join(chr(byte) if byte < 128 else f"%{byte:02x}" for byte in os.fsencode(path))
