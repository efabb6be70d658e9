"""Two runs compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from server_kit import serving
from test_cli_run import lightflow

from lightflow.client import Client
from lightflow.runs import diff_runs
from liteflow import RunNotFound

FLOW = (
    "workflow_name: flow\nparams: {rows: 1}\ntasks:\n  a: {run: 'echo v=${{ params.rows }} >> $LIGHTFLOW_OUTPUT'}\n"
    "  b: {run: 'test -e mended', depends_on: [a]}\n  large: {run: 'echo v=$(seq 200) >> $LIGHTFLOW_OUTPUT'}\n"
    "  m: {foreach: [x, y], run: 'echo v=${{ item }} >> $LIGHTFLOW_OUTPUT'}\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flow.yaml").write_text(FLOW)
    assert lightflow(tmp_path, "run", "flow.yaml", "-q", "--run-id", "one").returncode == 1
    return tmp_path


def test_equal_runs(folder: Path) -> None:
    assert lightflow(folder, "run", "flow.yaml", "-q", "--run-id", "two").returncode == 1
    done = lightflow(folder, "diff", "one", "latest", "--exit-code")
    assert (done.returncode, "no difference but times" in done.stdout) == (0, True)


def test_two_runs_are_compared_in_python(folder: Path) -> None:
    assert lightflow(folder, "run", "flow.yaml", "-q", "--run-id", "two", "-p", "rows=2").returncode == 1
    difference = diff_runs(str(folder / "lightflow.db"), "one", "two")
    assert (difference.differs, difference.params) == (True, {"rows": (1, 2)})
    assert [task.name for task in difference.tasks if task.differs] == [("a", -1)]
    with pytest.raises(RunNotFound):
        diff_runs(str(folder / "lightflow.db"), "one", "three")


def test_what_differs_is_named(folder: Path) -> None:
    (folder / "mended").touch()
    text = FLOW.replace("seq 200", "seq 201").replace("  m: {foreach: [x, y]", "  n: {run: ls}\n  m: {foreach: [x]")
    (folder / "flow.yaml").write_text(text.replace("depends_on: [a]", "depends_on: [a], retries: 1"))
    assert lightflow(folder, "run", "flow.yaml", "-q", "--run-id", "two", "-p", "rows=2").returncode == 0
    done = lightflow(folder, "diff", "one", "two", "--json", "--exit-code")
    assert done.returncode == 1
    difference = json.loads(done.stdout)
    assert difference["runs"] == ["one", "two"]
    assert difference["status"] == ["FAILED", "SUCCESS"]
    assert difference["params"] == {"rows": [1, 2]}
    changed = difference["definition"]
    assert changed["added"] == ["n"]
    assert changed["removed"] == []
    assert changed["changed"]["b"] == ["retries"]
    assert changed["changed"]["large"] == ["digest"]
    tasks = {(task["task"], task["map_index"]): task for task in difference["tasks"]}
    assert tasks["a", None]["outputs"] == {"v": ["1", "2"]}
    assert tasks["b", None]["status"] == ["FAILED", "SUCCESS"]
    assert tasks["large", None]["outputs"] == {"v": None}, "it is too long to be shown"
    assert tasks["n", None]["status"] == [None, "SUCCESS"]
    assert tasks["m", 0]["outputs"] == {}
    assert tasks["m", 1]["status"] == ["SUCCESS", None]
    plain = lightflow(folder, "diff", "one", "two")
    assert plain.returncode == 0
    assert "rows: 1 → 2" in plain.stdout
    assert "v: 1 → 2" in plain.stdout
    assert "v differs" in plain.stdout


@pytest.mark.parametrize("option", [None, "--hide-values"])
def test_a_server_compares_two_runs_as_the_command_does(folder: Path, option: str | None) -> None:
    assert lightflow(folder, "run", "flow.yaml", "-q", "--run-id", "two", "-p", "rows=2").returncode == 1
    printed = json.loads(lightflow(folder, "diff", "one", "two", "--json").stdout)
    with serving(folder, "ui", "lightflow.db", *([] if option is None else [option])) as server:
        answer = Client(server.url, server.viewer).diff("one", "two")
        missing = server.request("GET", "/api/v1/runs/one/diff/three")
    if option is None:
        assert answer == printed
    else:
        hidden = [{**task, "outputs": None} for task in printed["tasks"]]
        assert answer == {**printed, "params": None, "outputs": None, "tasks": hidden}
    assert missing.status == 404
    assert "there is no run 'three'; the latest: two, one" in missing.json()["detail"]


def test_an_unknown_run(folder: Path) -> None:
    done = lightflow(folder, "diff", "one", "nope")
    assert (done.returncode, "there is no run 'nope'" in done.stderr) == (3, True)


def test_child_runs_that_differ_are_named(tmp_path: Path) -> None:
    (tmp_path / "part.yaml").write_text("params: {n: 1}\ntasks:\n  t: {run: 'test ! -e broken${{ params.n }}'}\n")
    (tmp_path / "top.yaml").write_text(
        "tasks:\n  p: {type: workflow, file: part.yaml, foreach: [1, 2], params: {n: '${{ item }}'}, "
        "continue_on_error: true}\n"
    )
    assert lightflow(tmp_path, "run", "top.yaml", "-q", "--run-id", "one").returncode == 0
    (tmp_path / "broken2").touch()
    lightflow(tmp_path, "run", "top.yaml", "-q", "--run-id", "two")
    difference = json.loads(lightflow(tmp_path, "diff", "one", "two", "--json").stdout)
    children = {child["map_index"]: child for child in difference["child_runs"]}
    assert (children[0]["status"], children[0]["differs"]) == (["SUCCESS", "SUCCESS"], False)
    assert (children[1]["status"], children[1]["differs"]) == (["SUCCESS", "FAILED"], True)
    shown = lightflow(tmp_path, "diff", "one", "two").stdout
    assert " → ".join(children[1]["runs"]) in shown
    assert children[0]["runs"][0] not in shown
