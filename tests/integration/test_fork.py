"""A fork: a new run that begins in the middle of another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import event_fold
import pytest
from test_cli_run import lightflow

from liteflow import Dag, DefinitionError, ParamError, SkipTask, StoreError, current_context
from liteflow.state.history import History


def pipeline(db: str, trail: list[str], fails: str = "", **params: Any) -> Dag:
    """Tasks fetch (large) -> each (mapped) -> load -> end, a task that skips itself, and one that fails."""

    def note(name: str) -> None:
        trail.append(name)
        if name == fails:
            raise ValueError("not yet")

    def fetch() -> str:
        note("fetch")
        return "x" * 11_000_000

    def each(item: int) -> int:
        note(f"each[{item}]")
        return item * current_context().params.get("rows", 1)

    def load(fetch: str, each: list[int]) -> list[Any]:
        note("load")
        return [len(fetch), each, current_context().params.get("rows")]

    def absent() -> None:
        note("absent")
        raise SkipTask("not today")

    with Dag("pipeline", db, params=params or None) as dag:
        dag.task(fetch)
        dag.partial(each).expand(item=[1, 2, 3])
        loaded = dag.task(load)
        loaded >> dag.task(lambda: note("end"), task_id="end")
        dag.task(absent)
        dag.task(lambda: note("other"), task_id="other")
    return dag


def test_a_fork_runs_from_the_task_and_keeps_the_rest(db: str) -> None:
    trail: list[str] = []
    dag = pipeline(db, trail, rows=2)
    origin = dag.run(mode="inline")
    assert origin.value("load") == [11_000_000, [2, 4, 6], 2]
    trail.clear()
    fork = dag.fork(origin.run_id, "load", params={"rows": 5}, new_run_id="forked")
    assert sorted(trail) == ["end", "load"]
    assert (fork.run_id, fork.status, fork.value("load")) == ("forked", "SUCCESS", [11_000_000, [2, 4, 6], 5])
    assert origin.value("load") == [11_000_000, [2, 4, 6], 2], "the other run is as it was"
    with History(db) as history:
        run = history.run("forked")
        assert (run.origin_run_id, run.params) == (origin.run_id, {"rows": 5})
        instance = history.instance("forked", "fetch")
        assert instance is not None
        assert (instance.status, instance.reason) == ("SUCCESS", f"from run {origin.run_id}")
        assert history.attempts("forked", "fetch") == []
    origin.delete()
    assert dag.retry("forked", "load").value("load") == [11_000_000, [2, 4, 6], 5], "values and files are its own"
    trail.clear()
    dag.retry("forked", "fetch", only=True)
    assert trail == ["fetch"], "a kept task can run again"
    assert not event_fold.differences(db)


def test_an_instance_is_forked(db: str) -> None:
    trail: list[str] = []
    dag = pipeline(db, trail)
    origin = dag.run(mode="inline")
    trail.clear()
    fork = dag.fork(origin.run_id, ["each[1]"])
    assert sorted(trail) == ["each[2]", "end", "load"]
    assert fork.value("load") == [11_000_000, [1, 2, 3], None]


def test_what_did_not_succeed_runs_too(db: str) -> None:
    trail: list[str] = []
    origin = pipeline(db, trail, fails="other").run(mode="inline")
    trail.clear()
    fork = pipeline(db, trail).fork(origin.run_id, "end")
    assert (fork.status, sorted(trail)) == ("SUCCESS", ["end", "other"])


def test_what_cannot_be_forked_stores_nothing(db: str) -> None:
    dag = pipeline(db, [], rows=2)
    origin = dag.run(mode="inline")
    with pytest.raises(DefinitionError, match="has no task 'lod'; did you mean 'load'"):
        dag.fork(origin.run_id, "lod")
    with pytest.raises(ParamError, match="there is no such parameter"):
        dag.fork(origin.run_id, "load", params={"row": 3})
    with pytest.raises(ParamError, match="whole number"):
        dag.fork(origin.run_id, "load", params={"rows": "many"})
    with pytest.raises(StoreError, match="there is a run"):
        dag.fork(origin.run_id, "load", new_run_id=origin.run_id)
    for file in Path(f"{db}_xcom", origin.run_id).iterdir():
        file.unlink()
    with pytest.raises(DefinitionError, match=r"a value of 'fetch' in run .* no longer exists: run it again, too"):
        dag.fork(origin.run_id, "load")
    assert [run.run_id for run in dag.runs()] == [origin.run_id]
    assert dag.fork(origin.run_id, ["load", "fetch"]).status == "SUCCESS"


def test_a_setup_that_was_torn_down_is_set_up_for_the_fork(db: str) -> None:
    made: list[str] = []
    with Dag("setups", db) as dag:
        up = dag.task(lambda: made.append("up"), task_id="up", setup=True)
        first = dag.task(lambda: made.append("first"), task_id="first")
        second = dag.task(lambda: made.append("second"), task_id="second")
        down = dag.task(lambda: made.append("down"), task_id="down")
        up >> first >> second >> down
        down.as_teardown([up])
    origin = dag.run(mode="inline")
    made.clear()
    assert dag.fork(origin.run_id, "second").status == "SUCCESS"
    assert made == ["up", "second", "down"]


@pytest.mark.parametrize("choice", ["left", "right"])
def test_a_decision_is_kept(db: str, choice: str) -> None:
    with Dag("branches", db) as dag:
        start = dag.branch(lambda: choice, task_id="start")
        left, right = dag.task(lambda: 1, task_id="left"), dag.task(lambda: 2, task_id="right")
        start >> [left, right]
    origin = dag.run(mode="inline")
    choice = "neither"
    assert dag.fork(origin.run_id, ["left", "right"]).statuses() == origin.statuses()


def test_fork_as_a_command(tmp_path: Path) -> None:
    text = (
        "workflow_name: flow\nparams: {rows: 1}\ntasks:\n  a: {run: 'echo v=${{ params.rows }} >> $LIGHTFLOW_OUTPUT'}\n"
        "  b: {run: 'echo ${{ tasks.a.outputs.v }} ${{ params.rows }} > b'}\n"
    )
    (tmp_path / "flow.yaml").write_text(text)
    assert lightflow(tmp_path, "run", "flow.yaml", "-q").returncode == 0
    done = lightflow(tmp_path, "fork", "latest", "--from", "b", "--set", "params.rows=7", "--json")
    run = json.loads(done.stdout)
    assert (tmp_path / "b").read_text() == "1 7\n"
    assert (run["status"], run["params"]) == ("SUCCESS", {"rows": 7})
    assert "rows differs from run" in done.stderr
    assert f"a fork of run {run['origin']}" in lightflow(tmp_path, "status").stdout
    (tmp_path / "new.yaml").write_text(text.replace("> b", "| tee b"))
    assert lightflow(tmp_path, "fork", run["origin"], "--from", "b", "--file", "new.yaml", "-q").returncode == 0
    for arguments, message in (
        (["--from", "c"], "has no task 'c'"),
        (["--from", "b", "--set", "rows=1"], "write params.NAME=VALUE"),
        (["--from", "b", "--set", "params.row=1"], "--set params.row: there is no such parameter"),
        (["--from", "b", "--set", "params.rows=x"], "whole number"),
    ):
        refused = lightflow(tmp_path, "fork", run["origin"], *arguments)
        assert (refused.returncode, message in refused.stderr) == (2, True), refused.stderr
    assert len(json.loads(lightflow(tmp_path, "runs", "--json").stdout)) == 3
