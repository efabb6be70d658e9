"""Environment variables of one task do not reach another task."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from liteflow import Dag

ROOT = Path(__file__).resolve().parents[2]


def mapped(i: int) -> None:
    pass


def fails() -> None:
    raise ValueError


def hook() -> None:
    pass


def told() -> list[str]:
    return sorted(name for name in os.environ if name.startswith(("LIGHTFLOW_MAP", "LIGHTFLOW_HOOK", "LIGHTFLOW_EXPR")))


def test_a_worker_that_is_used_again_keeps_no_variables_of_its_last_task(db: str, tmp_path: Path) -> None:
    dag = Dag("d", db)
    instances, bad = dag.partial(mapped).expand(i=[1, 2]), dag.task(fails, on_failure=hook)
    plain: Any = dag.task(told, trigger_rule="all_done")
    _ = instances >> plain, bad >> plain
    run = dag.run(max_workers=1, mode="process", log_dir=str(tmp_path / "logs"))
    assert run.value("told") == []


def test_a_variable_of_that_name_in_the_environment_is_there_again_behind_a_task(
    db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_OUTPUT", "of the program")
    dag = Dag("d", db)
    dag.task(told, "told")
    assert dag.run(mode="process", log_dir=str(tmp_path / "logs")).value("told") == []
    assert os.environ["GITHUB_OUTPUT"] == "of the program"


INNER = """
workflow_name: inner
tasks:
  shell: {run: "env | grep -E '^LIGHTFLOW_(MAP|HOOK|EXPR)' > shell.txt || true"}
  python:
    type: python
    mode: process
    run: |
      import os
      names = [name for name in os.environ if name.startswith(("LIGHTFLOW_MAP", "LIGHTFLOW_HOOK", "LIGHTFLOW_EXPR"))]
      open("python.txt", "w").write(" ".join(names))
"""


def test_a_nested_run_does_not_pass_on_the_variables_of_its_task(tmp_path: Path) -> None:
    (tmp_path / "inner.yaml").write_text(INNER)
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    environ |= {"LIGHTFLOW_MAP_INDEX": "3", "LIGHTFLOW_HOOK": "on_failure", "LIGHTFLOW_HOOK_ERROR": "x"}
    environ |= {"LIGHTFLOW_EXPR_1": "a value of another task"}
    words = [sys.executable, "-m", "lightflow", "run", "inner.yaml", "--json"]
    done = subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["status"] == "SUCCESS"
    assert ((tmp_path / "shell.txt").read_text(), (tmp_path / "python.txt").read_text()) == ("", "")
