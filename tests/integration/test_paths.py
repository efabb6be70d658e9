"""Where paths start: `cwd` of a workflow, `-C`, and a hint where a file lies beside the workflow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flow_folder import lightflow

from lightflow.parser.workflow_loader import loads_workflow


def put(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "flow.yaml").write_text(text)


CWD = """\
cwd: %s
tasks:
  plain: {run: pwd, on_success: pwd, preconditions: [{run: 'pwd > "$LOG"'}], env: {LOG: "${{ workflow.dir }}/log"}}
  own: {run: pwd, cwd: other, on_success: pwd}
  python: {type: python, run: "import os; print(os.getcwd())"}
on_success: pwd
on_exit: {run: pwd, cwd: other}
"""


@pytest.mark.parametrize("written", ["work", "${{ workflow.dir }}/../work", "${{ env.PWD }}/work"])
def test_the_folder_of_a_workflow_is_that_of_all_that_names_no_other(tmp_path: Path, written: str) -> None:
    for name in ("work", "other"):
        (tmp_path / name).mkdir()
    put(tmp_path / "flows", CWD % written)
    done = lightflow(tmp_path, "run", "flows/flow.yaml", extra_env={"PWD": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    where = {
        "work": ["plain", "plain.on_success", "python", "on_success"],
        "other": ["own", "own.on_success", "on_exit"],
    }
    for folder, tasks in where.items():
        for task in tasks:
            assert lightflow(tmp_path, "logs", task).stdout.strip() == str(tmp_path / folder), task
    assert (tmp_path / "flows" / "log").read_text().strip() == str(tmp_path / "work")


@pytest.mark.parametrize("alias", ["cwd", "working_dir", "working-directory", "dir"])
def test_the_folder_of_a_workflow_has_the_names_that_it_has_in_a_task(alias: str) -> None:
    assert loads_workflow(f"{alias}: data\ntasks: {{t: {{run: echo}}}}").tasks["t"].cwd == "data"


def test_a_command_changes_to_the_folder_of_its_option_first(tmp_path: Path) -> None:
    put(tmp_path / "a b", "workflow_name: w\nparams: {p: {type: path}}\ntasks: {t: {run: 'pwd; test -e ok'}}\n")
    (tmp_path / "a b" / "params.yaml").write_text("p: x\n")
    for words in (["-C", "a b"], ["--directory", "a b"], ["--directory=a b"]):
        assert lightflow(tmp_path, "validate", *words, "flow.yaml").returncode == 0
    done = lightflow(tmp_path, "run", "flow.yaml", "-C", "a b", "--params-file", "params.yaml")
    assert done.returncode == 1
    assert "lightflow resume flow.yaml -C 'a b'" in done.stdout
    again = lightflow(tmp_path, "-C", "a b", "run", "flow.yaml", "--params-file", "params.yaml", "--db", "../x.db")
    assert "lightflow resume flow.yaml -C 'a b' --db ../x.db" in again.stdout
    note = lightflow(tmp_path, "run", "-C", "a b", "flow.yaml", "--params-file", "params.yaml")
    assert "to resume it: lightflow resume flow.yaml -C 'a b'" in note.stderr
    assert not (tmp_path / "lightflow.db").exists()
    assert lightflow(tmp_path, "logs", "-C", "a b", "t").stdout.strip() == str(tmp_path / "a b")
    (tmp_path / "a b" / "ok").touch()
    assert lightflow(tmp_path, "resume", "-C", "a b", "flow.yaml").returncode == 0
    status = json.loads(lightflow(tmp_path, "status", "-C", "a b", "--json").stdout)
    assert (status["status"], status["params"]) == ("SUCCESS", {"p": str(tmp_path / "a b" / "x")})
    assert lightflow(tmp_path, "-C", "a b", "dag", "flow.yaml", "--output", "w.svg").returncode == 0
    assert (tmp_path / "a b" / "w.svg").exists()


def test_a_folder_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    done = lightflow(tmp_path, "run", "-C", "nowhere", "flow.yaml")
    assert (done.returncode, done.stderr) == (2, "error: nowhere: No such file or directory\n")
    put(tmp_path / "here", "tasks: {t: {run: echo}}\n")
    wrong = lightflow(tmp_path, "run", "-C", "here", "flow.yaml", "--date", "soon")
    assert (wrong.returncode, "--date must be a date" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("task", "hint"),
    [
        ("{run: cat steps.txt}", "hint: steps.txt is next to the workflow file, and task t works in {here}: write"),
        ("{run: 'cat \"lib/part.txt\"'}", "hint: lib/part.txt is next to the workflow file"),
        ("{run: 'cd lib && true'}", "hint: lib is next to the workflow file"),
        ("{type: python, run: 'open(\"steps.txt\")'}", "hint: steps.txt is next to the workflow file"),
        (
            "{run: pwd, cwd: lib}",
            "hint: cwd: lib starts from {here}, where the run was started; next to the workflow file",
        ),
        ("{run: cat steps.txt, foreach: [1, 2]}", "hint: steps.txt is next to the workflow file"),
    ],
)
def test_a_file_that_is_next_to_the_workflow_is_pointed_at(tmp_path: Path, task: str, hint: str) -> None:
    put(tmp_path / "m", f"tasks: {{t: {task}}}\n")
    (tmp_path / "m" / "steps.txt").touch()
    (tmp_path / "m" / "lib").mkdir()
    (tmp_path / "m" / "lib" / "part.txt").touch()
    done = lightflow(tmp_path, "run", "m/flow.yaml")
    assert done.returncode == 1
    assert hint.format(here=tmp_path) in done.stderr
    assert done.stderr.count("hint:") == 1
    assert "${{ workflow.dir }}/" in done.stderr


@pytest.mark.parametrize(
    ("start", "there", "task"),
    [
        (".", True, "{run: 'false # steps.txt-old /steps.txt $steps.txt'}"),
        (".", True, "{run: 'touch steps.txt; false'}"),
        (".", False, "{run: cat steps.txt, cwd: '${{ workflow.dir }}'}"),
        ("m", False, "{run: cat steps.txt}"),
    ],
    ids=["other", "made", "in place", "nowhere"],
)
def test_there_is_no_hint_where_it_would_not_help(tmp_path: Path, start: str, there: bool, task: str) -> None:
    put(tmp_path / "m", f"tasks: {{t: {task}}}\n")
    if there:
        (tmp_path / "m" / "steps.txt").touch()
    done = lightflow(tmp_path / start, "run", str(tmp_path / "m" / "flow.yaml"))
    assert done.returncode == 1
    assert "hint:" not in done.stderr
