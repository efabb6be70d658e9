"""Commands that users of other tools type, and shell completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightflow.cli.commands import COMMANDS
from lightflow.cli.synonyms import ANSWERS

ENV = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
COMMAND = [sys.executable, "-m", "lightflow"]


def lightflow(folder: Path, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    env = {**ENV, **extra}
    return subprocess.run([*COMMAND, *words], cwd=folder, env=env, capture_output=True, text=True, timeout=60)


def test_no_words_and_help_are_the_help(tmp_path: Path) -> None:
    done = lightflow(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "template hello" in done.stdout
    assert done.stdout == lightflow(tmp_path, "--help").stdout == lightflow(tmp_path, "help").stdout


def test_help_of_a_command_and_version(tmp_path: Path) -> None:
    done = lightflow(tmp_path, "help", "run")
    assert (done.returncode, done.stdout) == (0, lightflow(tmp_path, "run", "--help").stdout)
    assert lightflow(tmp_path, "version").stdout == lightflow(tmp_path, "--version").stdout
    assert lightflow(tmp_path, "help", "nothing").returncode == 2


@pytest.mark.parametrize(
    ("typed", "leads_to"),
    [
        ("start", "lightflow run FILE"),
        ("ls", "lightflow list"),
        ("rerun", "lightflow retry RUN --from TASK"),
        ("stop", "lightflow cancel"),
        ("kill", "lightflow cancel"),
        ("ps", "lightflow status"),
        ("show", "lightflow status"),
        ("history", "lightflow runs"),
        ("graph", "lightflow dag FILE"),
        ("plot", "lightflow dag FILE"),
        ("init", "lightflow template NAME"),
        ("delete", "liteflow delete WORKFLOW --db lightflow.db"),
        ("retention", "lightflow prune"),
        ("rm", "liteflow delete WORKFLOW --db lightflow.db"),
        ("tail", "lightflow logs TASK"),
        ("output", "lightflow outputs"),
        ("RUN", "lightflow run"),
        ("etl.yaml", "lightflow run etl.yaml"),
    ],
)
def test_commands_of_other_tools_lead_on(tmp_path: Path, typed: str, leads_to: str) -> None:
    done = lightflow(tmp_path, typed)
    assert (done.returncode, done.stdout) == (2, "")
    first = done.stderr.splitlines()[0]
    assert first.startswith(f"error: there is no command '{typed}': ")
    assert f"`{leads_to}" in first
    assert "did you mean" not in first


def test_what_resembles_nothing_gets_no_hint(tmp_path: Path) -> None:
    assert lightflow(tmp_path, "xyzzy").stderr.splitlines()[0] == "error: there is no command 'xyzzy'"


def test_no_word_of_another_tool_is_a_command_or_occurs_twice() -> None:
    words = [word for words in ANSWERS for word in words.split()]
    assert len(words) == len(set(words))
    assert not set(words) & set(COMMANDS)


# -- completion ----------------------------------------------------------------------------------------------------


def completed(folder: Path, line: str) -> list[str]:
    number = str(len(line.split()) if line.endswith(" ") else len(line.split()) - 1)
    done = lightflow(folder, _LIGHTFLOW_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=number)
    return [entry.removeprefix("plain,") for entry in done.stdout.splitlines() if entry]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flow.yaml").write_text(
        "params: {day: a, rows: 1}\n"
        "tasks:\n  fetch: {run: 'echo ${{ item }}', foreach: [a, b, c]}\n  load: {run: x=1}\n"
    )
    (tmp_path / "notes.txt").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "inner.yml").touch()
    assert lightflow(tmp_path, "run", "flow.yaml", "--quiet", "--run-id", "fine").returncode == 0
    return tmp_path


def test_a_mapped_task_is_offered_once(folder: Path) -> None:
    assert completed(folder, "lightflow why fe") == ["fetch"]
    assert completed(folder, "lightflow logs --task ") == ["fetch", "load"]


def test_parameters_are_offered_behind_their_option(folder: Path) -> None:
    assert completed(folder, "lightflow run flow.yaml -p ") == ["day=", "rows="]
    assert completed(folder, "lightflow run flow.yaml -p r") == ["rows="]
    assert completed(folder, "lightflow run none.yaml -p r") == []


def test_files_and_runs_are_offered_to_resume(folder: Path) -> None:
    assert completed(folder, "lightflow resume f") == ["flow.yaml", "fine"]
    assert completed(folder, "lightflow resume s") == ["sub/"]
    assert completed(folder, "lightflow resume sub/") == ["sub/inner.yml"]


def test_the_printed_lines_work_in_a_new_account(tmp_path: Path) -> None:
    output = lightflow(tmp_path, "completion", "--help").stdout
    lines = [line.strip() for line in output.partition("Examples:")[2].splitlines() if line.strip()]
    assert len(lines) == 5
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "lightflow"
    program.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    env = {**ENV, "HOME": str(tmp_path / "new"), "PATH": f"{program.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-e"], input="\n".join(lines), env=env, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    made = [entry for entry in (tmp_path / "new").rglob("*") if entry.is_file()]
    assert len(made) == 3
    assert all("_LIGHTFLOW_COMPLETE" in entry.read_text() for entry in made)


# -- warnings of validate --------------------------------------------------------------------------------------------

DOUBTFUL = "env: {A: '$HOME/x'}\ntasks:\n  a: {run: 'if [[ -f x ]]; then echo; fi'}\n"


def test_warnings_do_not_fail_a_file(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(DOUBTFUL)
    done = lightflow(tmp_path, "validate", "flow.yaml")
    assert done.returncode == 0
    assert "flow.yaml: valid" in done.stdout
    assert done.stderr.splitlines() == [
        "warning: flow.yaml:1:11: env.A: $HOME stays as it is: no shell reads `env`; write ${{ env.HOME }}",
        "warning: flow.yaml:3:12: tasks.a.run: [[ is bash, and this is sh: write `shell: bash`",
    ]


def test_warnings_in_json(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(DOUBTFUL)
    (tmp_path / "bad.yaml").write_text("tasks: 1\n")
    done = lightflow(tmp_path, "validate", "flow.yaml", "bad.yaml", "--json")
    good, bad = json.loads(done.stdout)["files"]
    assert (good["valid"], good["problems"], bad["valid"], bad["warnings"]) == (True, [], False, [])
    assert [(entry["line"], entry["column"], entry["path"]) for entry in good["warnings"]] == [
        (1, 11, "env.A"),
        (3, 12, "tasks.a.run"),
    ]


def test_a_run_prints_no_warnings_and_has_a_hint_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text("env: {A: '$HOME/x'}\ntasks:\n  a: {run: source x}\n")
    done = lightflow(tmp_path, "run", "flow.yaml")
    assert done.returncode == 1
    assert "warning" not in done.stdout + done.stderr
    assert "hint: this is bash: write `shell: bash`" in done.stdout
