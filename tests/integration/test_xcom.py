"""Values in the state file: read and written by hand, large ones beside it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from liteflow import Dag, PayloadError, StoreError, XCom

LARGE = 11 * 1024 * 1024


class Thing:
    def __eq__(self, other: object) -> bool:
        return type(other) is Thing

    __hash__ = None  # type: ignore[assignment]


def thing() -> Thing:
    return Thing()


def nothing() -> None:
    return None


def small() -> dict[str, Any]:
    return {"a": [1, "ü", None]}


def large() -> str:
    return "x" * LARGE


def count(large: str) -> int:
    return len(large)


def is_none(nothing: None) -> bool:
    return nothing is None


@pytest.mark.parametrize("mode", ["inline", "thread", "process"])
def test_values_of_every_kind(db: str, mode: str) -> None:
    with Dag("flow", db) as dag:
        for func in (thing, nothing, small, large, count, is_none):
            dag.task(func)
    run = dag.run(mode=mode).raise_for_failure()
    assert XCom.load(db, run.run_id, "small") == {"a": [1, "ü", None]}
    assert XCom.load(db, run.run_id, "thing") == Thing()
    assert XCom.load(db, run.run_id, "large") == "x" * LARGE
    assert XCom.load(db, run.run_id, "count") == LARGE
    assert XCom.load(db, run.run_id, "is_none") is True
    connection = sqlite3.connect(db)
    sql = "SELECT task_id, encoding, value, size, file FROM liteflow_xcom"
    rows = {row[0]: row[1:] for row in connection.execute(sql)}
    connection.close()
    assert "nothing" not in rows, "None is not stored"
    assert rows["small"][:2] == ("json", '{"a":[1,"ü",null]}')
    assert rows["thing"][0] == "pickle"
    encoding, value, size, file = rows["large"]
    assert (encoding, value, size) == ("json", None, LARGE + 2)
    assert file.startswith(f"{run.run_id}/"), "relative: the state file and its folder may be moved together"


def test_a_state_file_moves_with_its_folder(db: str, tmp_path: Path) -> None:
    with Dag("flow", db) as dag:
        dag.task(large)
    run = dag.run(mode="inline")
    (tmp_path / "new").mkdir()
    for name in ("state.db", "state.db_xcom"):
        os.rename(tmp_path / name, tmp_path / "new" / name)
    assert len(XCom.load(str(tmp_path / "new" / "state.db"), run.run_id, "large")) == LARGE


def test_what_is_not_there(db: str) -> None:
    with Dag("flow", db) as dag:
        dag.task(small)
    run = dag.run(mode="inline")
    assert XCom.load(db, run.run_id, "nobody") is None
    assert XCom.load(db, run.run_id, "small", "no such key", default=7) == 7
    assert XCom.load(db, "no such run", "small", default=7) == 7
    with pytest.raises(StoreError, match="no such state file"):
        XCom.load(f"{db}x", run.run_id, "small")


def test_values_by_hand(db: str) -> None:
    with Dag("flow", db) as dag:
        dag.task(small)
    run = dag.run(mode="inline")
    for value in ((1, 2), "x" * LARGE, None):
        XCom.save(db, run.run_id, "small", "mine", value)
        assert XCom.load(db, run.run_id, "small", "mine", default="nothing") == value
    with pytest.raises(PayloadError, match="cannot be stored"):
        XCom.save(db, run.run_id, "small", "mine", lambda: 1)


@pytest.mark.parametrize("harm", ["altered", "missing"])
def test_a_harmed_file_fails_every_reader(db: str, tmp_path: Path, harm: str) -> None:
    def break_it() -> None:
        (file,) = (tmp_path / "state.db_xcom").rglob("*.json")
        if harm == "missing":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:-1] + b"!")

    with Dag("flow", db) as dag:
        made = dag.task(large)
        breaks = dag.task(break_it)
        counted = dag.task(count, large=made)
        made >> breaks >> counted
    run = dag.run(mode="inline")
    assert run.statuses() == {"large": "SUCCESS", "break_it": "SUCCESS", "count": "FAILED"}
    assert "PayloadError" in run.failures()["count"]
    assert ".json" in run.failures()["count"], "it names the file"
    with pytest.raises(PayloadError):
        run.value("large")


def test_an_altered_row_cannot_reach_outside(db: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('"secret"')
    with Dag("flow", db) as dag:
        dag.task(small)
    run = dag.run(mode="inline")
    connection = sqlite3.connect(db)
    connection.execute("UPDATE liteflow_xcom SET value=NULL, file='../secret', sha256='0'")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="outside its folder"):
        run.value("small")
