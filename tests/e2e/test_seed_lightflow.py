"""The page that the users of the seed know: every command line on it, as typed, and every example, end to end."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
#: The workflow files of the page, as it prints them.
SEED = ROOT / "tests" / "data" / "seed"

MY_WORKFLOW = """\
workflow_name: my_first_workflow
tasks:
  hello:
    run: echo "Hello, LightFlow!"
    type: shell
    depends_on: []
  world:
    run: echo "World!"
    type: shell
    depends_on: [hello]
settings:
  max_parallel_tasks: 2
"""

#: In the order of the page. What is no file of ours there (`workflow.yaml`) is the one of its Quick Start.
LINES = [
    "run my_workflow.yaml",
    "dag --file my_workflow.yaml --output workflow.svg",
    "run examples/basic_workflow.yaml",
    "validate examples/basic_workflow.yaml",
    "dag --file examples/basic_workflow.yaml --output dag.svg",
    "logs --task train_model",
    "resume examples/basic_workflow.yaml",
    "template my_workflow2",
    "list-checkpoints workflow_name",
    "clear workflow_name",
    "run workflow.yaml --mode thread",
    "run workflow.yaml --max-workers 8",
    "run workflow.yaml --dry-run",
    "run workflow.yaml --resume",
    "run workflow.yaml --debug",
    "--help",
    "run --help",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as it is after `git clone`, with the Quick Start's file in it."""
    shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "my_workflow.yaml").write_text(MY_WORKFLOW)
    (tmp_path / "workflow.yaml").write_text(MY_WORKFLOW)
    return tmp_path


def lightflow(folder: Path, line: str, *, program: tuple[str, ...] = ("-m", "lightflow.cli.main"), **env: str) -> str:
    """What a command printed; it must succeed, without a word on stderr that is not a note."""
    done = subprocess.run(
        [sys.executable, *program, *line.split()],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": _path(), **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{line}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout


def _path() -> str:
    """The tests' own Python first: the scripts of the page are started as `python`."""
    return f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"


def rows(folder: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(folder / "lightflow.db")
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def test_every_line_of_the_page_in_its_order(folder: Path) -> None:
    printed = {line: lightflow(folder, line) for line in LINES}

    assert "my_first_workflow SUCCESS" in printed["run my_workflow.yaml"]
    assert (folder / "workflow.svg").read_text().count('class="node task state-') == 2
    assert (folder / "dag.svg").read_text().count('class="node task state-') == 5
    assert "valid" in printed["validate examples/basic_workflow.yaml"]
    assert printed["logs --task train_model"] == "Training model...\n"
    assert (folder / "my_workflow2.yaml").exists()
    assert "no checkpoints" in printed["list-checkpoints workflow_name"]
    assert "Nothing was run" in printed["run workflow.yaml --dry-run"]
    assert "state in" in printed["run workflow.yaml --debug"]
    assert "dag" in printed["--help"]
    assert "--max-workers" in printed["run --help"]
    # 5 ended anew: two of the Quick Start's (one is asked to go on with a success and does not), three with options.
    assert len(rows(folder, "SELECT 1 FROM liteflow_dag_runs WHERE status='SUCCESS'")) == 5
    assert len(rows(folder, "SELECT 1 FROM liteflow_dag_runs")) == 5


def test_what_the_page_says_of_logs_and_checkpoints(folder: Path) -> None:
    lightflow(folder, "run my_workflow.yaml")
    logs = sorted((folder / "logs").iterdir())
    assert [log.name.split("_")[1] for log in logs] == ["hello", "world"]
    assert logs[0].read_text() == "Hello, LightFlow!\n"
    [saved] = (folder / ".lightflow-checkpoints").iterdir()
    assert saved.name.endswith(".lightflow-checkpoint.json")
    content = json.loads(saved.read_text())
    assert content["workflow_name"] == "my_first_workflow"
    assert content["total_tasks"] == 2
    assert content["version"] == "1.0"
    assert content["completed_tasks"]["world"]["output"] == "World!"
    assert "2/2" in lightflow(folder, "list-checkpoints my_first_workflow")
    assert "removed 1" in lightflow(folder, "clear my_first_workflow")
    assert list((folder / ".lightflow-checkpoints").iterdir()) == []


def test_the_template_runs(folder: Path) -> None:
    lightflow(folder, "template fresh")
    assert "fresh SUCCESS" in lightflow(folder, "run fresh.yaml")


@pytest.mark.parametrize("program", [("-m", "lightflow.cli.main"), ("-m", "lightflow")])
def test_all_names_of_the_program_are_the_same(folder: Path, program: tuple[str, ...]) -> None:
    assert lightflow(folder, "--version", program=program).startswith("lightflow ")
    assert lightflow(folder, "--help", program=program).splitlines()[0].count("lightflow ") == 1


def test_basic_workflow_in_order(folder: Path) -> None:
    lightflow(folder, "run examples/basic_workflow.yaml")
    attempts = rows(folder, "SELECT task_id, started_at, ended_at FROM liteflow_attempts ORDER BY started_at")
    assert [task for task, _, _ in attempts] == ["fetch_data", "preprocess", "train_model", "evaluate", "notify"]
    assert all(first[2] <= second[1] for first, second in pairwise(attempts))  # type: ignore[operator]


@pytest.mark.parametrize("mode", ["thread", "process", "async"])
def test_python_workflow(folder: Path, mode: str) -> None:
    lightflow(folder, f"run examples/python_workflow.yaml --mode {mode}")
    results = json.loads((folder / "data/results.json").read_text())
    assert results["count"] == 10
    assert "Mean:" in lightflow(folder, "logs --task process_data")


def test_parallel_workflow_is_parallel(folder: Path) -> None:
    lightflow(folder, "run examples/parallel_workflow.yaml")
    result = rows(folder, "SELECT task_id, started_at, ended_at FROM liteflow_attempts")
    spans: dict[object, tuple[float, float]] = {task: (begun, ended) for task, begun, ended in result}  # type: ignore[misc]
    # y begins when the 3 s of b end, which is when the 2 s of z (begun after the 1 s of c) end: x overlaps both.
    for stage in (
        "process_data_a process_data_b process_data_c",
        "train_model_x train_model_y",
        "train_model_x train_model_z",
    ):
        begun, ended = zip(*(spans[task] for task in stage.split()), strict=True)
        assert max(begun) < min(ended), f"{stage} did not run side by side"
    # Tasks start when what they wait for has ended, not when a whole level has.
    assert spans["train_model_z"][0] < spans["process_data_b"][1]


def test_daily_model_pipeline(folder: Path) -> None:
    shutil.copy(SEED / "daily_model_pipeline.yaml", folder / "examples")
    bin_folder = fake(folder, "curl", "echo posted: $*")
    here = folder / "examples"
    lightflow(here, "run daily_model_pipeline.yaml", PATH=f"{bin_folder}{os.pathsep}{_path()}")
    assert "posted: -X POST https://webhook.site/send" in lightflow(here, "logs --task notify")
    assert json.loads((here / "data/model.json").read_text())["slope"] == pytest.approx(3.2, abs=0.3)


def test_data_pipeline(folder: Path) -> None:
    shutil.copy(SEED / "data_pipeline.yaml", folder / "examples")
    bin_folder = fake(folder, "wget", "printf 'name,price\\n\\napple,3\\n' > data.csv")
    here = folder / "examples/scripts"
    lightflow(here, "run ../data_pipeline.yaml", PATH=f"{bin_folder}{os.pathsep}{_path()}")
    assert (here / "report.md").read_text() == "# Report\n\n- lines: 2\n- words: 4\n"


def test_ml_training(folder: Path) -> None:
    here = folder / "examples/scripts"
    lightflow(here, "run ../ml_training.yaml")
    assert (here / "deployed/model.json").exists()


@pytest.mark.parametrize(("place", "file"), [(".", "daily_model_pipeline.yaml"), ("scripts", "../data_pipeline.yaml")])
def test_the_examples_need_no_network(folder: Path, place: str, file: str) -> None:
    lightflow(folder / "examples" / place, f"run {file}")


def fake(folder: Path, name: str, script: str) -> Path:
    """A program that stands in for one that would need the network."""
    path = folder / "bin" / name
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path.parent
