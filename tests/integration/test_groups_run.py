"""Groups in workflow files: run, resumed, shown, explained and drawn."""

from __future__ import annotations

from pathlib import Path

from flow_folder import lightflow, problems, status, write

from liteflow.api import History

GROUPED = """
workflow_name: nightly
params: {full: false, fail: false}
tasks:
  prepare: {run: echo prepare}
  load:
    depends_on: prepare
    on_success: echo loaded
    on_failure: echo "$LIGHTFLOW_HOOK_TASK ${LIGHTFLOW_HOOK_ERROR}" > failed.txt
    tasks:
      fetch: {run: 'echo rows=3 >> "$LIGHTFLOW_OUTPUT"'}
      check:
        run: test ${{ tasks.fetch.outputs.rows }} -eq ${{ tasks.load.fetch.outputs.rows }} && test ! -e stop
      each:
        foreach: ["${{ tasks.fetch.outputs.rows }}", b]
        run: echo ${{ item }}
      history:
        if: params.full and tasks.fetch.outputs.rows == '3'
        tasks:
        - {id: old, run: echo old, trigger_rule: all_done}
        - {id: older, run: echo older, depends_on: old}
  report:
    if: tasks.load.status == 'success'
    depends_on: load
    run: echo ${{ tasks.load.fetch.outputs.rows }} rows
"""


def states(folder: Path) -> dict[str, str]:
    view = status(folder)
    rows = {each["task"]: each["status"] for each in (*view["tasks"], *view["hooks"])}
    return rows | {f"group {group['id']}": group["status"] for group in view["groups"]}


def test_a_grouped_workflow_runs_fails_and_is_resumed(tmp_path: Path) -> None:
    write(tmp_path, GROUPED)
    (tmp_path / "stop").touch()
    assert lightflow(tmp_path, "run", "flow.yaml", "-p", "full=true").returncode == 1
    assert states(tmp_path) == {
        "prepare": "SUCCESS",
        "load.fetch": "SUCCESS",
        "load.check": "FAILED",
        "load.each": "SUCCESS",
        "load.history.old": "SUCCESS",
        "load.history.older": "SUCCESS",
        "report": "UPSTREAM_FAILED",
        "load.on_failure": "SUCCESS",
        "group load": "FAILED",
        "group load.history": "SUCCESS",
    }
    assert (tmp_path / "failed.txt").read_text() == "load 'load.check' failed\n"
    why = lightflow(tmp_path, "why", "report").stdout
    assert "load is FAILED: 'load.check' failed" in why
    assert "load.check is FAILED: attempt 1" in why
    (tmp_path / "stop").unlink()
    assert lightflow(tmp_path, "resume", "flow.yaml").returncode == 0
    assert set(states(tmp_path).values()) == {"SUCCESS"}
    with History(str(tmp_path / "lightflow.db")) as history:
        run = history.last_active()
        joins = [event for event in history.events(run.run_id) if event.task_id == "load"]
        attempts = history.attempts(run.run_id)
    assert [event.status for event in joins] == ["FAILED", "PENDING", "SUCCESS"]
    assert {attempt.task_id for attempt in attempts}.isdisjoint({"load", "load.history", "load.history.entry"})
    assert [attempt.attempt for attempt in attempts if attempt.task_id == "load.fetch"] == [1]


def test_a_group_that_does_not_run_and_how_it_is_shown(tmp_path: Path) -> None:
    write(tmp_path, GROUPED)
    done = lightflow(tmp_path, "run", "flow.yaml")
    assert "7 tasks" in done.stdout
    assert "load.history.entry" not in done.stdout
    result = states(tmp_path)
    assert result["load.history.old"] == result["group load.history"] == "SKIPPED"
    assert result["group load"] == result["report"] == "SUCCESS"
    assert "if: params.full" in lightflow(tmp_path, "why", "load.history.old").stdout
    table = lightflow(tmp_path, "status").stdout
    assert "load  " in table
    assert "load.fetch" not in table, "a group that succeeded is folded"
    members = lightflow(tmp_path, "status", "--task", "load").stdout
    assert "load.fetch" in members
    assert "prepare" not in members
    view = status(tmp_path)
    assert view["counts"] == {"SUCCESS": 5, "SKIPPED": 2}
    groups = {group["id"]: group for group in view["groups"]}
    assert groups["load"]["members"] == ["load.fetch", "load.check", "load.each", "load.history"]
    assert groups["load.history"]["group"] == "load"
    assert next(task for task in view["tasks"] if task["task"] == "load.check")["group"] == "load"


def test_pictures_draw_boxes_and_fold_them(tmp_path: Path) -> None:
    write(tmp_path, GROUPED)
    mermaid = lightflow(tmp_path, "dag", "flow.yaml", "--format", "mmd").stdout
    assert 'subgraph t_load["load"]' in mermaid
    assert "    t_load --> t_report" in mermaid
    assert "entry" not in mermaid
    folded = lightflow(tmp_path, "dag", "flow.yaml", "--format", "mmd", "--fold").stdout
    assert 't_load["load<br/>group of 5 tasks"]' in folded
    assert "    t_prepare --> t_load" in folded
    dot = lightflow(tmp_path, "dag", "flow.yaml", "--format", "dot").stdout
    assert 'subgraph "cluster_task-load"' in dot
    assert 'ltail="cluster_task-load"' in dot
    lightflow(tmp_path, "run", "flow.yaml")
    lightflow(tmp_path, "dag", "--run", "latest", "--output", "run.html")
    page = (tmp_path / "run.html").read_text()
    assert 'id="fold"' in page
    assert 'id="folded"' in page
    assert "load · ✓ success" in page.replace("#183;", "·").replace("#10003;", "✓")
    assert lightflow(tmp_path, "dag", "--run", "latest", "--output", "run.svg").returncode in (0, 1, 2)


def test_a_branch_chooses_a_group_by_its_name(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        tasks:
          g:
            tasks:
              pick: {branch: true, run: echo more}
              more:
                depends_on: pick
                tasks: {a: {run: echo}, b: {run: echo, depends_on: a}}
              less:
                depends_on: pick
                tasks: {c: {run: echo}, d: {run: echo, depends_on: c, trigger_rule: all_done}}
        """,
    )
    assert lightflow(tmp_path, "run", "flow.yaml").returncode == 0
    assert {name: state for name, state in states(tmp_path).items() if state == "SKIPPED"} == {
        "g.less.c": "SKIPPED",
        "g.less.d": "SKIPPED",
        "group g.less": "SKIPPED",
    }


def test_a_group_is_chosen_to_run_again(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(
        """
from liteflow import Dag
from liteflow.api import History
with Dag("flow", "lightflow.db") as dag:
    def a(): pass
    def b(): pass
    with dag.group("load") as load:
        dag.task(a) >> dag.task(b)
    load >> dag.task(lambda: None, "after")
    dag.task(lambda: None, "other")
if __name__ == "__main__":
    run = dag.run(mode="thread")
    again = dag.retry(run.run_id, start=["load"])
    with History("lightflow.db") as history:
        print(again.status, [len(history.attempts(run.run_id, t)) for t in ("load.a", "load.b", "after", "other")])
"""
    )
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "flow.py"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "SUCCESS [2, 2, 2, 1]"


def test_an_empty_group_is_a_success_and_keeps_the_order(tmp_path: Path) -> None:
    write(
        tmp_path, "tasks: {a: {run: exit 1}, g: {depends_on: a, tasks: {}}, h: {tasks: {}}, b: {needs: g, run: echo}}"
    )
    lightflow(tmp_path, "run", "flow.yaml")
    assert states(tmp_path) == {
        "a": "FAILED",
        "b": "UPSTREAM_FAILED",
        "group g": "UPSTREAM_FAILED",
        "group h": "SUCCESS",
    }


def test_a_value_of_a_group_is_a_mistake_with_its_place() -> None:
    text = "tasks: {g: {tasks: {a: {run: echo}}}, b: {run: 'echo ${{ tasks.g.outputs.x }}'}}"
    assert "w.yaml:1:54: tasks.b.run: g is a group, which has no values" in problems(text)
