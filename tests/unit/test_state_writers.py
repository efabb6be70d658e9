"""Few modules write to the state file, and one of them writes statuses and events."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: The modules of liteflow/state with SQL that writes: each with the tables it writes to.
WRITERS: dict[str, set[str]] = {
    "transitions": {"dag_runs", "task_instances", "events", "attempts", "xcom", "fires"},
    "triggers": {"triggers"},
    "write_batch": {"attempts", "xcom", "requests"},
    "parking": {"requests"},
    "undo_rows": {"undos"},
    "store": {"dag_runs"},
    "new_run": {"dags", "graphs"},
    "pools": {"pools", "slots", "requests"},
    "child_rows": {"dag_runs", "requests"},
    "admin": {"dag_runs", "dags", "pools", "requests", "xcom"},
    "reruns": {"dag_runs", "requests", "xcom"},
    "deletion": {"dag_runs", "dags", "graphs", "requests", "xcom", "?"},  # "?": a table whose name is computed
    "schema": {"task_instances", "dag_runs"},
}
_WRITES = re.compile(r"\b(INSERT(?: OR \w+)? INTO|UPDATE|DELETE FROM) liteflow_(\?|\w+)(.*)", re.DOTALL)


def sql_that_writes(source: str) -> Iterator[tuple[str, str, str]]:
    """Yield the statements in the texts of a module: what they do, to which table, and the rest."""
    inner: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            inner |= {id(part) for part in ast.walk(node) if part is not node}
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "?" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            text = node.value
        else:
            continue
        for statement in re.split(r";\s*\n", text):
            if match := _WRITES.search(statement):
                yield match[1], match[2], match[3]


def writes_a_status(verb: str, table: str, rest: str) -> bool:
    """Whether a statement changes the status of a run or an instance, or stores an event."""
    if table == "events":
        return not verb.startswith("DELETE")
    if table not in ("dag_runs", "task_instances", "fires", "?"):
        return False
    return verb.startswith("INSERT") or (
        verb == "UPDATE" and re.search(r"\bstatus\s*=", rest.split("WHERE")[0]) is not None
    )


def modules() -> list[Path]:
    return sorted(path for package in ("liteflow", "lightflow") for path in (ROOT / package).rglob("*.py"))


def statements(path: Path) -> list[tuple[str, str, str]]:
    return list(sql_that_writes(path.read_text(encoding="utf-8")))


def test_only_transitions_writes_statuses_and_events() -> None:
    result = {path.stem for path in modules() if any(writes_a_status(*each) for each in statements(path))}
    assert result == {"transitions"}


def test_sql_that_writes_is_in_few_modules() -> None:
    result = {path.relative_to(ROOT): {table for _, table, _ in statements(path)} for path in modules()}
    assert {path.as_posix(): tables for path, tables in result.items() if tables} == {
        f"liteflow/state/{name}.py": tables for name, tables in WRITERS.items()
    }


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x('INSERT INTO liteflow_events (run_id) VALUES (?)')", True),
        ("x(f'UPDATE liteflow_task_instances SET {more}status=? WHERE run_id=?')", True),
        ("x('UPDATE liteflow_dag_runs SET epoch=1 WHERE status=?')", False),
        ("x(f'UPDATE liteflow_{table} SET status=?')", True),
        ("BulkInsert('INSERT INTO liteflow_task_instances', 'run_id, status')", True),
        ("x('DELETE FROM liteflow_events WHERE run_id=?')", False),
        ("x('INSERT OR REPLACE INTO liteflow_xcom VALUES (?)')", False),
        ("x('UPDATE liteflow_fires SET status=? WHERE run_id=?')", True),
    ],
)
def test_the_check_knows_a_status_when_it_is_written(source: str, expected: bool) -> None:
    assert any(writes_a_status(*each) for each in sql_that_writes(source)) is expected


def test_the_pages_for_contributors_name_the_modules_that_write() -> None:
    for page in ("CONTRIBUTING.md", "docs/explanation/architecture.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert "liteflow/state/transitions.py" in text, page
