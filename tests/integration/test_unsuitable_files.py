"""Messages about files of the wrong kind: parameters, modules, dags, other workflows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ENV = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


def lightflow(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "lightflow", *words]  # as the installed program: without the folder
    done = subprocess.run(command, cwd=folder, env=ENV, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "p.yaml",
            "- 1\n",
            "p.yaml:1:1: holds a list; a file of parameters holds names of parameters and their values",
        ),
        ("p.yaml", "", "p.yaml: is empty; a file of parameters holds names of parameters and their values"),
        (
            "p.json",
            "[1]",
            "p.json:1:1: holds no object; a file of parameters holds names of parameters and their values",
        ),
        ("p.yaml", "a: 1\n---\nb: 2\n", "p.yaml:2:1: a second document begins here; a file of parameters holds one"),
    ],
)
def test_a_file_of_parameters_is_called_that(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / "flow.yaml").write_text("params: {a: 1}\ntasks: {a: {run: echo}}\n")
    (tmp_path / name).write_text(text)
    done = lightflow(tmp_path, "run", "flow.yaml", "--params-file", name)
    assert done.returncode == 2
    assert done.stderr.startswith(message)


@pytest.mark.parametrize("code", ["3", "", "'no'", "0"])
@pytest.mark.parametrize("command", ["validate", "run"])
def test_a_script_that_exits_is_read_once_and_reported_to_exit(tmp_path: Path, code: str, command: str) -> None:
    script = "open('ran', 'a').write('x')\nimport sys\nsys.exit({})\n"
    (tmp_path / "flow.py").write_text(script.format(code))
    done = lightflow(tmp_path, command, "flow.py")
    assert done.returncode == 2
    assert done.stderr == f"flow.py:3:1: called sys.exit({code}) before it defined a dag\n"
    assert (tmp_path / "ran").read_text() == "x"


def test_a_script_that_exits_when_it_has_defined_a_dag_is_fine(tmp_path: Path) -> None:
    script = (
        "from liteflow import Dag\ndef f(): pass\nwith Dag('d') as dag:\n    dag.task(f)\nimport sys\nsys.exit(3)\n"
    )
    (tmp_path / "flow.py").write_text(script)
    assert lightflow(tmp_path, "validate", "flow.py").returncode == 0


def test_a_file_with_the_name_of_a_loaded_module(tmp_path: Path) -> None:
    (tmp_path / "signal.py").write_text("def f():\n    return 1\n")
    (tmp_path / "flow.yaml").write_text("tasks: {a: {type: python, call: 'signal:f'}}\n")
    done = lightflow(tmp_path, "run", "flow.yaml")
    assert done.returncode == 1
    assert f"{tmp_path}/signal.py: a module named 'signal' is loaded already" in done.stdout
    (tmp_path / "flow.yaml").write_text("tasks: {a: {type: python, call: 'json:none'}}\n")
    assert "give the file another name" not in lightflow(tmp_path, "run", "flow.yaml").stdout


def test_a_run_of_another_file_of_the_same_name_is_reported(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        text = "name: flow\ntasks: {one: {run: 'true'}, two: {run: 'false', depends_on: one}}\n"
        (tmp_path / folder / "flow.yaml").write_text(text)
    lightflow(tmp_path, "run", "a/flow.yaml", "--run-id", "first")
    reported = f"run first was started from another file, {tmp_path}/a/flow.yaml"
    assert reported in lightflow(tmp_path, "resume", "b/flow.yaml").stderr
    assert reported in lightflow(tmp_path, "run", "--resume", "b/flow.yaml").stderr
    assert "another file" not in lightflow(tmp_path, "resume", "a/flow.yaml").stderr
    runs = json.loads(lightflow(tmp_path, "runs", "--json").stdout)
    assert len(runs["runs"] if isinstance(runs, dict) else runs) == 1


def test_a_link_that_leads_nowhere_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").symlink_to(tmp_path / "missing.yaml")
    done = lightflow(tmp_path, "validate", "flow.yaml")
    assert done.returncode == 2
    assert "flow.yaml: is a link to a file that does not exist" in done.stderr
