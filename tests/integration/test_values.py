"""Values handed from task to task through a run, whatever their size."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from liteflow import Dag

MODES = ("process", "thread", "async", "inline")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [0, 1000, 70_000, 2_000_000, 11_000_000])
def test_a_value_of_any_size_reaches_its_consumers(tmp_path: Path, mode: str, size: int) -> None:
    def make() -> str:
        return "x" * size

    def use(make: str) -> int:
        return len(make)

    def use_again(make: str) -> str:
        return hashlib.sha256(make.encode()).hexdigest()

    with Dag("sizes", str(tmp_path / "liteflow.db")) as dag:
        dag.task(make)
        dag.task(use)
        dag.task(use_again)
    run = dag.run(mode=mode).raise_for_failure()
    assert run.value("use") == size
    assert run.value("use_again") == hashlib.sha256(b"x" * size).hexdigest()
    spilled = list((tmp_path / "liteflow.db_xcom").rglob("*.json"))
    assert len(spilled) == (1 if size > 10 * 1024 * 1024 else 0)
    run.delete()
    assert not list((tmp_path / "liteflow.db_xcom").rglob("*.json"))
