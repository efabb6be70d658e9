"""Several workflows in a file: `FILE#NAME` wherever a command takes a file."""

from __future__ import annotations

import json
from pathlib import Path

from flow_folder import lightflow, status, write

SEVERAL = """
workflow_name: first
tasks: {a: {run: echo a}}
---
workflow_name: second
tasks:
  a: {run: test -e ready}
  b: {run: echo b, needs: a}
"""


def test_the_first_runs_and_another_is_named(tmp_path: Path) -> None:
    write(tmp_path, SEVERAL)
    assert lightflow(tmp_path, "run", "flow.yaml").returncode == 0
    assert status(tmp_path)["workflow"] == "first"
    assert lightflow(tmp_path, "run", "flow.yaml#second").returncode == 1
    view = status(tmp_path)
    assert view["workflow"] == "second"
    assert view["source"] == f"{tmp_path}/flow.yaml#second"
    listed = {each["workflow"]: each["source"] for each in json.loads(lightflow(tmp_path, "list", "--json").stdout)}
    assert listed == {"first": f"{tmp_path}/flow.yaml#first", "second": f"{tmp_path}/flow.yaml#second"}


def test_a_run_of_one_of_several_is_resumed_by_its_id_and_by_its_name(tmp_path: Path) -> None:
    write(tmp_path, SEVERAL)
    lightflow(tmp_path, "run", "flow.yaml#second")
    done = lightflow(tmp_path, "resume", "flow.yaml#second")
    assert done.returncode == 1
    assert "another file" not in done.stderr + done.stdout
    (tmp_path / "ready").touch()
    assert lightflow(tmp_path, "resume", status(tmp_path)["run_id"]).returncode == 0
    assert {task["task"]: task["status"] for task in status(tmp_path)["tasks"]} == {"a": "SUCCESS", "b": "SUCCESS"}


def test_all_are_checked_and_each_mistake_has_its_line(tmp_path: Path) -> None:
    write(tmp_path, SEVERAL)
    done = lightflow(tmp_path, "validate", "flow.yaml")
    assert "valid, first, second, 3 tasks" in done.stdout
    assert "valid, second, 2 tasks" in lightflow(tmp_path, "validate", "flow.yaml#second").stdout
    plan = lightflow(tmp_path, "run", "--dry-run", "flow.yaml#second").stdout
    assert plan.startswith("second: 2 tasks")
    assert 'title: "second"' in lightflow(tmp_path, "dag", "flow.yaml#second", "--format", "mmd").stdout
    write(tmp_path, SEVERAL.replace("run: echo a", "rum: x").replace("needs: a", "needs: c"))
    done = lightflow(tmp_path, "validate", "flow.yaml")
    assert done.returncode == 2
    assert "flow.yaml:3:13: tasks.a: unknown key" in done.stderr
    assert 'flow.yaml:8:27: tasks.b.depends_on: no task "c"' in done.stderr


def test_an_unknown_name_is_a_mistake_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, SEVERAL)
    done = lightflow(tmp_path, "run", "flow.yaml#secnd")
    assert done.returncode == 2
    assert 'no workflow "secnd", did you mean "second"?' in done.stderr


def test_a_file_whose_name_has_the_mark_is_a_file(tmp_path: Path) -> None:
    write(tmp_path, SEVERAL, "a#b.yaml")
    assert lightflow(tmp_path, "run", "a#b.yaml").returncode == 0
    assert lightflow(tmp_path, "run", "a#b.yaml#second").returncode == 1


def test_a_dag_of_a_script_is_named_too(tmp_path: Path) -> None:
    text = "from liteflow import Dag\nfor name in ('one', 'two'):\n    with Dag(name) as dag: dag.shell('true')\n"
    (tmp_path / "flow.py").write_text(text)
    assert lightflow(tmp_path, "run", "flow.py#two").returncode == 0
    assert status(tmp_path)["workflow"] == "two"
