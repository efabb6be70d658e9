"""State files that are not what they should be: the right error, the file's name in it, and no byte changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from liteflow import Dag, LiteflowError, ResourceError, StoreError, XCom, init_schema
from liteflow.errors import CorruptDatabase, ForeignDatabase, SchemaTooNew
from liteflow.state import schema
from liteflow.state.history import History

#: A state file that a version with schema 1 wrote.
OLD_FILE = Path(__file__).resolve().parent.parent / "data" / "state" / "schema_1.db"


def one() -> int:
    return 1


def make(db: str) -> str:
    """A state file with one finished run, all of it in the one file. Returns the run's id."""
    with Dag("flow", db) as dag:
        for number in range(40):
            dag.task(one, task_id=f"t{number}")
    run_id = dag.run(mode="inline").run_id
    connection = sqlite3.connect(db)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return run_id


def read_all(db: str) -> None:
    with History(db) as history:
        run = history.latest()
        history.instances(run.run_id)
        history.attempts(run.run_id)
        history.events(run.run_id)


def digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def damage(path: str, kind: str) -> type[LiteflowError]:
    """Make a bad state file; returns the error it deserves."""
    match kind:
        case "foreign database":
            connection = sqlite3.connect(path)
            connection.execute("CREATE TABLE theirs (x)")
            connection.commit()
            connection.close()
            return ForeignDatabase
        case "foreign application id":
            connection = sqlite3.connect(path)
            connection.execute("PRAGMA application_id=1234")
            connection.commit()
            connection.close()
            return ForeignDatabase
        case "text":
            Path(path).write_text("workflow_name: this is no database\n" * 50)
            return ForeignDatabase
        case "short text":
            Path(path).write_text("hello")
            return ForeignDatabase
        case "zeros":
            Path(path).write_bytes(bytes(8192))
            return ForeignDatabase
        case "newer schema" | "schema 0" | "schema below 0":
            make(path)
            number = {"newer schema": schema.SCHEMA_VERSION + 1, "schema 0": 0, "schema below 0": -2147483647}[kind]
            connection = sqlite3.connect(path)
            connection.execute(f"PRAGMA user_version={number}")
            connection.commit()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
            return SchemaTooNew if number > 0 else CorruptDatabase
        case "truncated":
            make(path)
            os.truncate(path, os.path.getsize(path) // 8192 * 4096)
            return CorruptDatabase
        case "garbage schema page":
            make(path)
            with open(path, "r+b") as file:
                file.seek(100)
                file.write(b"\xff" * 2000)
            return CorruptDatabase
    raise AssertionError(kind)


BAD = [
    "foreign database",
    "foreign application id",
    "text",
    "short text",
    "zeros",
    "newer schema",
    "schema 0",
    "schema below 0",
]


@pytest.mark.parametrize("kind", BAD)
def test_a_file_of_another_program_is_refused_and_left_alone(db: str, kind: str) -> None:
    wanted = damage(db, kind)
    before = digest(db)
    with Dag("flow", db) as dag:
        dag.task(one)
    for action in (
        lambda: init_schema(db),
        lambda: dag.run(mode="inline"),
        lambda: dag.resume(),
        lambda: Dag.load(db, "flow"),
        lambda: Dag.all_dags(db),
        lambda: Dag.delete_dag(db, "flow"),
        lambda: XCom.load(db, "r", "t"),
        lambda: History(db),
    ):
        with pytest.raises(wanted) as caught:
            action()
        assert type(caught.value) is wanted
        assert db in str(caught.value)
        assert "\n" not in str(caught.value)
        assert digest(db) == before


@pytest.mark.parametrize("kind", ["truncated", "garbage schema page"])
def test_a_damaged_file_is_refused_and_left_alone(db: str, kind: str) -> None:
    damage(db, kind)
    before = digest(db)
    with Dag("flow", db) as dag:
        dag.task(one)
    with pytest.raises(CorruptDatabase) as caught:
        dag.run(mode="inline")
    assert db in str(caught.value)
    with pytest.raises(CorruptDatabase):
        read_all(db)
    assert digest(db) == before


def test_an_empty_file_becomes_a_state_file(db: str) -> None:
    Path(db).touch()
    with pytest.raises(StoreError, match="holds no runs"):
        History(db)
    init_schema(db)
    with History(db) as history:
        assert history.runs() == []


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder") as caught:
        init_schema(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(StoreError, match="is not a file"):
        History(str(tmp_path))
    with Dag("flow", str(tmp_path)) as dag:
        dag.task(one)
    with pytest.raises(StoreError, match="is a folder"):
        dag.run(mode="inline")


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    path = str(tmp_path / "no" / "such" / "x.db")
    with Dag("flow", path) as dag:
        dag.task(one)
    with pytest.raises(StoreError, match="no such folder"):
        dag.run(mode="inline")
    with pytest.raises(StoreError):
        init_schema(path)
    with pytest.raises(StoreError, match="no such state file"):
        History(path)
    assert not (tmp_path / "no").exists()


def test_reading_makes_no_file(tmp_path: Path) -> None:
    for look in (Dag.all_dags, History):
        with pytest.raises(StoreError, match="no such state file"):
            look(str(tmp_path / "x.db"))
    assert list(tmp_path.iterdir()) == []


@contextlib.contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Root may write anywhere: be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    above = [one for one in folder.parents if one.owner() == "root" and one.stat().st_mode & 0o005 != 0o005]
    if above:
        pytest.skip(f"runs as root, and {above[0]} is closed to others")
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder below which everyone may look: pytest's own is closed to others."""
    import shutil
    import tempfile

    path = Path(tempfile.mkdtemp(prefix="lightflow-"))
    path.chmod(0o755)
    yield path
    path.chmod(0o755)
    shutil.rmtree(path)


def test_a_read_only_folder(open_folder: Path) -> None:
    db = str(open_folder / "state.db")
    run_id = make(db)
    for one_file in open_folder.iterdir():
        if one_file.name != "state.db":
            one_file.unlink()
    os.chmod(db, 0o444)
    before = digest(db)
    with Dag("flow", db) as dag:
        dag.task(one)
    os.chmod(open_folder, 0o555)
    with as_nobody(open_folder):
        with pytest.raises(StoreError) as caught:
            dag.run(mode="inline")
        assert db in str(caught.value)
        with History(db) as history:  # looking is still possible
            assert history.run(run_id).status == "SUCCESS"
            assert len(history.instances(run_id)) == 40
    assert digest(db) == before
    assert [one_file.name for one_file in open_folder.iterdir()] == ["state.db"]


# -- migrations -------------------------------------------------------------------------------------------


def statements() -> int:
    return len(schema._definitions(schema.SCHEMA_VERSION))


def tables(db: str) -> list[object]:
    connection = sqlite3.connect(db)
    try:
        return [
            connection.execute("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'liteflow_%'").fetchone()[0],
            connection.execute("PRAGMA user_version").fetchone()[0],
            connection.execute("PRAGMA application_id").fetchone()[0],
        ]
    finally:
        connection.close()


def content(db: str) -> list[str]:
    """Return all tables and rows of a database, and its version."""
    with contextlib.closing(sqlite3.connect(db)) as connection:
        return [*connection.iterdump(), str(connection.execute("PRAGMA user_version").fetchone())]


@pytest.mark.parametrize("point", range(statements() + 3))
def test_a_crash_at_any_statement_of_a_migration_leaves_old_or_new(db: str, point: int) -> None:
    pid = os.fork()
    if pid == 0:  # a real death: no rollback is run by anybody
        with contextlib.suppress(BaseException):
            connection = sqlite3.connect(db, isolation_level=None)
            count = 0

            def trace(sql: str) -> None:
                nonlocal count
                if sql.lstrip().startswith(
                    ("CREATE", "ALTER", "DROP", "COMMIT", "PRAGMA application_id=", "PRAGMA user_version=")
                ):
                    if count == point:
                        os.kill(os.getpid(), 9)
                    count += 1

            connection.set_trace_callback(trace)
            schema.migrate(connection, db)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "it died where it was told to"
    assert tables(db)[0] == 0, "nothing is half there"
    init_schema(db)
    assert tables(db)[1:] == [schema.SCHEMA_VERSION, schema.APPLICATION_ID]
    make(db)


@pytest.mark.alters_rows("the version that wrote the file stored no event of a reset")
@pytest.mark.parametrize("cause", ["a statement", "the disk"])
def test_a_failing_migration_changes_nothing(db: str, cause: str) -> None:
    """The migration drops an index that is missing, or the file system has room for the copy and not for more."""
    shutil.copyfile(OLD_FILE, db)
    if cause == "a statement":
        with contextlib.closing(sqlite3.connect(db)) as connection:
            connection.execute("DROP INDEX liteflow_one_success")
            connection.commit()
    before, version, previous = content(db), tables(db)[1], resource.getrlimit(resource.RLIMIT_FSIZE)
    if cause == "the disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(db), previous[1]))
    try:
        with pytest.raises((StoreError, ResourceError), match=r"no such index|the disk reported an error"):
            init_schema(db)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, previous)
    assert tables(f"{db}.v{version}.bak")[1] == version
    assert content(db) == before
    with pytest.raises(StoreError, match=rf"v{version}\.bak: is in the way"):
        init_schema(db)
    assert content(db) == before


@pytest.mark.alters_rows("the version that wrote the file stored no event of a reset")
def test_a_file_of_an_older_version_is_read_as_it_is_and_upgraded_by_the_next_run(db: str) -> None:
    shutil.copyfile(OLD_FILE, db)
    before = digest(db)
    expected = [("a", "SUCCESS", None), ("b", "RUNNING", None), ("c", "PENDING", None)]
    with History(db) as history:
        assert [(row.task_id, row.status, row.map_key) for row in history.instances("killed")] == expected
    assert digest(db) == before, "reading changes nothing"
    make(db)
    assert tables(db)[1] == schema.SCHEMA_VERSION
    assert tables(f"{db}.v1.bak")[1] == 1
    with History(db) as history:
        assert [(row.task_id, row.status, row.map_key) for row in history.instances("killed")] == expected
        assert history.latest().status == "SUCCESS"


def test_init_schema_may_be_repeated(db: str) -> None:
    init_schema(db)
    before = tables(db)
    for _ in range(3):
        init_schema(db)
    assert tables(db) == before
    make(db)
    preserved = digest(db)
    init_schema(db)
    assert digest(db) == preserved


@pytest.mark.parametrize("name", ["with space.db", "ünï.db", "a?b#c%20.db", "-x.db", "';--.db"])
def test_file_names(tmp_path: Path, name: str) -> None:
    db = str(tmp_path / name)
    run_id = make(db)
    assert Dag.all_dags(db)[0].dag_id == "flow"
    assert XCom.load(db, run_id, "t0") == 1
    assert {one_file.name.removeprefix(name) for one_file in tmp_path.iterdir()} <= {"", ".lock", "-wal", "-shm"}


def test_the_state_file_is_private_to_nobody_but_its_lock_is(db: str) -> None:
    make(db)
    assert os.stat(f"{db}.lock").st_mode & 0o077 == 0
