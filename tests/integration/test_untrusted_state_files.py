"""Untrusted state files: data that is checked when it is written is checked again when it is read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flow_folder
import pytest

from lightflow.cli.main import main as lightflow
from liteflow import Dag, DagRun, XCom
from liteflow.cli import main as liteflow
from liteflow.errors import CorruptDatabase, LiteflowError, PayloadError
from liteflow.state.deletion import delete_runs
from liteflow.state.history import History

COLUMNS = {
    "run_id": ("dag_runs", "task_instances", "attempts", "events", "xcom"),
    "dag_id": ("dag_runs", "dags"),
    "task_id": ("task_instances", "attempts", "events"),
}
FLOW = "workflow_name: flow\ntasks:\n  a: {run: echo said}\n  b: {run: exit 1, depends_on: [a]}\n"


@pytest.fixture
def handed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of somebody's, with a state file in a folder below it, which is the current one."""
    inner = tmp_path / "home" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "home" / "precious").mkdir()
    (tmp_path / "home" / "precious" / "file").write_text("precious")
    (inner / "flow.yaml").write_text(FLOW)
    monkeypatch.chdir(inner)
    monkeypatch.delenv("LIGHTFLOW_DB", raising=False)
    assert flow_folder.lightflow(inner, "run", "flow.yaml", "-q", "--run-id", "r1").returncode == 1
    return inner


def alter(db: Path | str, column: str, value: str) -> None:
    connection = sqlite3.connect(db)
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.execute("DROP TRIGGER IF EXISTS liteflow_attempt_is_final")
    for table in COLUMNS[column]:
        connection.execute(f"UPDATE OR IGNORE liteflow_{table} SET {column}=?", (value,))
    connection.commit()
    connection.close()


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


class Said(NamedTuple):
    code: int
    text: str


Say = Callable[..., Said]


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Say:
    """Run a command in this process; those that run workflows get one of their own."""

    def call(main: Callable[..., Any], *words: str) -> Said:
        if words[0] == "resume":
            done = flow_folder.lightflow(Path.cwd(), *words)
            return Said(done.returncode, done.stdout + done.stderr)
        capfd.readouterr()
        try:
            code = main(list(words))
        except SystemExit as end:
            code = int(end.code or 0)
        return Said(code, "".join(capfd.readouterr()))

    return call


def places(handed: Path) -> list[str]:
    home = handed.parent
    return [
        str(home / "precious"),
        "../precious",
        "x/../../precious",
        "..",
        ".",
        "a\x1b[2Jb",
        "\u202ea",
        "a/b",
        "",
        "a\nb",
    ]


LOOKS = [
    ["status"], ["runs"], ["list"], ["logs", "a"], ["why", "b"], ["outputs"],
    ["dag", "--run", "latest"], ["dag", "--run", "latest", "--format", "html"], ["cancel", "latest"], ["doctor"],
]  # fmt: skip


@pytest.mark.parametrize("column", COLUMNS)
def test_an_id_that_is_a_path_or_hides_something_is_refused_by_every_command(
    handed: Path, say: Say, column: str
) -> None:
    for place in places(handed):
        shutil.copy("lightflow.db", "handed.db")
        alter("handed.db", column, place)
        before = tree(handed.parent)
        for words in LOOKS:
            code, text = say(lightflow, *words, "--db", "handed.db")
            assert code in (0, 1, 2, 3), (words, place, text)
            assert "Traceback" not in text
            assert text.replace("\n", "").isprintable(), (words, place, text)
        for words in (
            ["delete", "flow", "--yes"],
            ["delete", "--run", place, "--yes"],
            ["visualize", "flow", "--no-open"],
        ):
            code, text = say(liteflow, *words, "--db", "handed.db")
            assert code in (0, 2, 3), (words, place, text)
        with contextlib.suppress(LiteflowError):
            Dag.delete_dag("handed.db", "flow")
        with contextlib.suppress(LiteflowError):
            DagRun.load("handed.db", place).delete()
        with contextlib.suppress(LiteflowError):
            delete_runs("handed.db", [place], "flow")
        shutil.rmtree("logs.new", ignore_errors=True)
        new = tree(handed.parent) - before
        assert {path.split("/")[0] for path in new} <= {"inner"}, (place, new)
        gone = {path for path in before - tree(handed.parent) if not path.endswith(("-shm", "-wal"))}
        assert not [path for path in gone if not path.startswith(("inner/logs/task_", "inner/.lightflow-checkpoints/"))]
        for left in handed.glob("handed.db*"):
            left.unlink() if left.is_file() else shutil.rmtree(left)


def test_the_reader_names_the_file_and_refuses_the_row(handed: Path, say: Say) -> None:
    alter("lightflow.db", "run_id", "../precious")
    with History("lightflow.db") as history, pytest.raises(CorruptDatabase, match=r"lightflow\.db: is damaged"):
        history.latest()


@pytest.mark.parametrize("run_id", ["../precious", "/tmp/x", "", ".."])
def test_a_value_is_not_saved_under_a_run_id_that_is_a_path(handed: Path, run_id: str) -> None:
    with pytest.raises(LiteflowError, match="run id"):
        XCom.save("lightflow.db", run_id, "a", "key", "x" * 11_000_000)
    assert not (handed / "lightflow.db_xcom").exists()


def test_a_picture_named_after_the_workflow_stays_in_the_current_folder(handed: Path, say: Say) -> None:
    """The name is that of the workflow as it was made."""
    assert say(lightflow, "dag", "--run", "latest")[0] == 0
    assert (handed / "flow.svg").exists()


def test_a_folder_of_values_that_is_a_link_costs_no_file_of_the_users(handed: Path, say: Say) -> None:
    """`lightflow.db_xcom` leads to the home, and the run is called like a folder there."""
    (handed / "lightflow.db_xcom").symlink_to(handed.parent)
    alter("lightflow.db", "run_id", "precious")
    assert say(liteflow, "delete", "flow", "--yes", "--db", "lightflow.db")[0] == 0
    assert (handed.parent / "precious" / "file").read_text() == "precious"


def test_only_values_are_removed_with_a_run(db: str) -> None:
    with Dag("flow", db) as dag:
        dag.task(lambda: "x" * 11_000_000, task_id="large")
    run = dag.run(mode="inline", run_id="r1")
    folder = Path(f"{db}_xcom", "r1")
    assert len(list(folder.iterdir())) == 1
    run.delete()
    assert not folder.exists()


LOGS = {
    "another file": lambda folder: folder / "secret",
    "a link with the name of a log": lambda folder: folder / "task_a_20260101_000000.log",
}


@pytest.mark.parametrize("what", LOGS)
def test_a_log_is_only_what_is_named_like_one(handed: Path, say: Say, what: str) -> None:
    """Neither shown, nor copied into a checkpoint, nor quoted in a summary."""
    (handed / "secret").write_text("the-secret")
    (handed / "task_a_20260101_000000.log").symlink_to(handed / "secret")
    connection = sqlite3.connect("lightflow.db")
    connection.execute("DROP TRIGGER liteflow_attempt_is_final")
    connection.execute("UPDATE liteflow_attempts SET log_path=?", (str(LOGS[what](handed)),))
    connection.execute("UPDATE liteflow_task_instances SET log_path=?", (str(LOGS[what](handed)),))
    connection.commit()
    connection.close()
    for words in (["logs", "a"], ["status"], ["why", "b"], ["resume", "flow.yaml"]):
        assert "the-secret" not in say(lightflow, *words)[1]
    for file in (handed / ".lightflow-checkpoints").iterdir():
        assert "the-secret" not in file.read_text()


@pytest.mark.alters_rows("it makes a row that cannot be")
@pytest.mark.parametrize("number", [-5, 0, -(2**63)])
def test_a_run_number_that_cannot_be_names_the_file(handed: Path, say: Say, number: int) -> None:
    connection = sqlite3.connect("lightflow.db")
    connection.execute("UPDATE liteflow_dag_runs SET run_no=?, status='RUNNING'", (number,))
    connection.execute(
        "INSERT INTO liteflow_slots (run_no, task_id, map_index, pool, run_id, slots, asked_at) "
        "VALUES (?, 'a', -1, 'p', 'r1', 1, 0.0)",
        (number,),
    )
    connection.commit()
    connection.close()
    for words in (["status"], ["runs"], ["resume", "flow.yaml"], ["doctor"]):
        code, text = say(lightflow, *words)
        assert (code, "lightflow.db" in text) == (3, True), (words, code, text)
    assert say(lightflow, "pools")[0] == 0


def test_a_value_read_through_a_path_out_of_the_folder_is_refused(handed: Path, say: Say) -> None:
    raw = b'"stolen"'
    (handed / "stolen.json").write_bytes(raw)
    connection = sqlite3.connect("lightflow.db")
    connection.execute(
        "INSERT INTO liteflow_xcom VALUES ('r1', 'a', -1, 'k', 'json', NULL, 8, '../stolen.json', ?, 0.0)",
        (hashlib.sha256(raw).hexdigest(),),
    )
    connection.commit()
    connection.close()
    with pytest.raises((LiteflowError, PayloadError)):
        XCom.load("lightflow.db", "r1", "a", "k")
    assert os.path.exists("stolen.json")
