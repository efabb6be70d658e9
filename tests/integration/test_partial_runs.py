"""Runs of a part of a workflow: what is selected, what the rest counts as, and whose values are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import event_fold
import pytest
from test_cli_run import lightflow

from liteflow import Dag, DefinitionError
from liteflow.state.history import History


def chain(db: str, trail: list[str], **fails: bool) -> Dag:
    """Tasks a -> b -> c -> d, and a -> e; b reads the value of a."""

    def body(name: str) -> Any:
        def run() -> str:
            trail.append(name)
            if fails.get(name):
                raise ValueError("not yet")
            return name * 2

        return run

    def b(a: str) -> str:
        trail.append("b")
        return a + "b"

    with Dag("chain", db) as dag:
        a = dag.task(body("a"), task_id="a")
        tasks = [a, dag.task(b), *(dag.task(body(name), task_id=name) for name in "cde")]
        for above, below in ((0, 1), (1, 2), (2, 3), (0, 4)):
            tasks[above] >> tasks[below]
    return dag


@pytest.mark.parametrize(
    ("selection", "ran"),
    [
        ({"only": ["a"]}, "a"),
        ({"only": ["c", "e"]}, "ce"),
        ({"start": ["c"]}, "cd"),
        ({"until": ["c"]}, "abc"),
        ({"until": ["d"], "start": ["c"]}, "cd"),
        ({"start": ["c"], "only": ["e"]}, "cde"),
        ({"skip": ["d"]}, "abce"),
        ({"until": ["d"], "skip": ["c", "d"]}, "ab"),
        ({"until": ["[ae]"]}, "ae"),
    ],
)
def test_what_is_selected_runs(db: str, selection: dict[str, list[str]], ran: str) -> None:
    trail: list[str] = []
    run = chain(db, trail).run(mode="inline", **selection)  # type: ignore[arg-type]
    assert "".join(sorted(trail)) == ran
    assert run.status == "SUCCESS"
    assert run.statuses() == {name: "SUCCESS" if name in ran else "SKIPPED" for name in "abcde"}
    with History(db) as history:
        assert history.run(run.run_id).selection == sorted(ran)
        instances = {each.task_id: each.reason for each in history.instances(run.run_id)}
    assert {name for name, reason in instances.items() if reason == "not selected"} == set("abcde") - set(ran)
    assert not event_fold.differences(db)


def test_a_resume_keeps_the_selection(db: str) -> None:
    trail: list[str] = []
    run = chain(db, trail, c=True).run(mode="inline", until=["c"])
    assert run.status == "FAILED", "a selected task that failed fails the run, whatever is not selected after it"
    run = chain(db, trail).resume(run.run_id, mode="inline")
    assert (run.status, "".join(trail)) == ("SUCCESS", "abcc")
    chain(db, trail).retry(run.run_id, "b", mode="inline")
    assert "".join(trail) == "abccbc", "what follows and is not selected does not run"
    chain(db, trail).retry(run.run_id, "d", mode="inline")
    assert "".join(trail) == "abccbcd", "unless it is named"


def test_a_task_that_is_added_later_is_not_selected(db: str) -> None:
    trail: list[str] = []
    run = chain(db, trail, c=True).run(mode="inline", until=["c"])
    dag = chain(db, trail)
    dag.task(lambda: trail.append("new"), task_id="new")
    run = dag.resume(run.run_id, mode="inline")
    assert (run.status, "".join(trail), run.statuses()["new"]) == ("SUCCESS", "abcc", "SKIPPED")
    assert not event_fold.differences(db)


def test_values_of_tasks_that_are_not_selected_come_from_another_run(db: str) -> None:
    trail: list[str] = []
    dag = chain(db, trail)
    with pytest.raises(DefinitionError, match="task 'b' reads a value of 'a', which is not selected"):
        dag.run(mode="inline", start=["b"])
    assert not Path(db).exists() or not dag.runs()
    whole = dag.run(mode="inline")
    part = dag.run(mode="inline", only=["b"], values_from=whole.run_id)
    assert (part.status, part.value("b"), part.statuses()["a"]) == ("SUCCESS", "aab", "SKIPPED")
    failed = chain(db, trail, a=True).run(mode="inline")
    with pytest.raises(DefinitionError, match="the values of task 'a' are needed, and it is FAILED in run"):
        dag.run(mode="inline", only=["b"], values_from=failed.run_id)
    assert len(dag.runs()) == 3, "nothing was stored"


def test_large_and_mapped_values_of_another_run(db: str) -> None:
    with Dag("large", db) as dag:
        large = dag.task(lambda: "x" * 11_000_000, task_id="large")
        each = dag.partial(lambda item: item * 2, task_id="each").expand(item=[1, 2, 3])
        dag.task(lambda large, each: [len(large), each], task_id="end", large=large, each=each)
    whole = dag.run(mode="inline")
    part = dag.run(mode="inline", only=["end"], values_from=whole.run_id)
    assert part.value("end") == [11_000_000, [2, 4, 6]]
    whole.delete()
    assert dag.retry(part.run_id, "end", mode="inline").value("end") == [11_000_000, [2, 4, 6]], "the copy is its own"
    assert not event_fold.differences(db)


def test_setups_of_selected_tasks_are_selected(db: str) -> None:
    made: list[str] = []
    with Dag("setups", db) as dag:
        up = dag.task(lambda: made.append("up"), task_id="up", setup=True)
        first = dag.task(lambda: made.append("first"), task_id="first")
        second = dag.task(lambda: made.append("second"), task_id="second")
        down = dag.task(lambda: made.append("down"), task_id="down")
        up >> first >> second >> down
        down.as_teardown([up])
        dag.task(lambda: made.append("other"), task_id="other")
    dag.run(mode="inline", only=["second"])
    assert made == ["up", "second", "down"]


def test_invalid_selections(db: str) -> None:
    dag = chain(db, [])
    for selection, message in (
        ({"only": ["aa"]}, "workflow 'chain' has no task 'aa'; did you mean 'a'"),
        ({"only": ["a"], "skip": ["a"]}, "no task is selected"),
        ({"values_from": "x"}, "all tasks run, so none reads the values of another run"),
    ):
        with pytest.raises(DefinitionError, match=message):
            dag.run(mode="inline", **selection)  # type: ignore[arg-type]


def test_a_partial_run_as_a_command(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(
        "workflow_name: flow\ntasks:\n  a: {run: 'echo rows=3 >> $LIGHTFLOW_OUTPUT'}\n"
        "  b: {run: 'echo ${{ tasks.a.outputs.rows }} > b'}\n  c: {run: touch c, depends_on: [b]}\n"
    )
    assert lightflow(tmp_path, "run", "flow.yaml", "b", "-q").returncode == 0
    assert not (tmp_path / "c").exists()
    run = json.loads(lightflow(tmp_path, "status", "--json").stdout)
    assert run["selection"] == ["a", "b"]
    assert "partial   only a, b" in lightflow(tmp_path, "status").stdout
    assert "(partial)" in lightflow(tmp_path, "runs").stdout
    (tmp_path / "b").unlink()
    none = lightflow(tmp_path, "task", "run", "flow.yaml", "b", "--values-from", "latest")
    assert (none.returncode, "there is no run of all tasks of 'flow'" in none.stderr) == (3, True)
    assert lightflow(tmp_path, "run", "flow.yaml", "-q").returncode == 0
    assert lightflow(tmp_path, "task", "run", "flow.yaml", "b", "--values-from", "latest", "-q").returncode == 0
    assert (tmp_path / "b").read_text() == "3\n"
    plan = lightflow(tmp_path, "run", "flow.yaml", "--only", "c", "--dry-run")
    assert plan.stdout.count("SKIPPED: not selected") == 2
    refused = lightflow(tmp_path, "run", "flow.yaml", "c", "--resume")
    assert (refused.returncode, "a resumed run keeps its selection" in refused.stderr) == (2, True)
    two = lightflow(tmp_path, "run", "flow.yaml", "other.yaml")
    assert (two.returncode, "unexpected extra argument (other.yaml)" in two.stderr) == (2, True)
