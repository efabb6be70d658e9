"""What click makes of command lines: values, `-C`, mistakes and completions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from lightflow.cli.app import cli
from lightflow.cli.commands import COMMANDS
from lightflow.cli.options import with_db

ROOT = Path(__file__).resolve().parents[2]


def values(line: str) -> dict[str, Any]:
    """Return the parameters of a command that differ from those of the shortest line."""
    name, *words = line.split()
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return dict(command.make_context(name, words).params)


def lightflow(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    here = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    line = [sys.executable, "-m", "lightflow", *words]
    return subprocess.run(line, cwd=folder, env=here, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("run one.yaml", {"file": "one.yaml", "resume": False, "db": "lightflow.db", "fail_fast": None, "params": ()}),
        ("run one.yaml -j 4 --mode process", {"max_workers": 4, "mode": "process"}),
        ("run one.yaml -j4 --mode=process", {"max_workers": 4, "mode": "process"}),
        ("run -qn one.yaml", {"file": "one.yaml", "quiet": True, "dry_run": True}),
        ("run one.yaml --no-fail-fast", {"fail_fast": False}),
        ("run one.yaml --fail-fast --run-id r", {"fail_fast": True, "run_id": "r"}),
        ("run one.yaml -p a=1 -p b=2", {"params": ("a=1", "b=2")}),
        ("resume latest --db x.db", {"target": "latest", "db": "x.db"}),
        ("logs --task a --attempt 2 -f", {"name": None, "task": "a", "attempt": 2, "follow": True}),
        ("validate one.yaml two.yaml --json", {"files": ("one.yaml", "two.yaml"), "as_json": True}),
        ("why latest a", {"names": ("latest", "a")}),
        ("cancel latest --wait 0.5", {"run": "latest", "wait": 0.5}),
        ("dag -f one.yaml -o one.svg", {"name": None, "file": "one.yaml", "output": "one.svg"}),
        ("pools set gpu 2", {"words": ("set", "gpu", "2")}),
        ("list", {"limit": None}),
        ("runs --limit 5", {"workflow": None, "limit": 5}),
    ],
)
def test_values(line: str, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIGHTFLOW_DB", raising=False)
    assert {name: value for name, value in values(line).items() if name in expected} == expected


def test_the_state_file_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTFLOW_DB", "other.db")
    assert values("status")["db"] == "other.db"
    assert values("status --db third.db")["db"] == "third.db"
    monkeypatch.setenv("LIGHTFLOW_DB", "")
    assert values("status")["db"] == "lightflow.db"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("run", ["Missing argument", "FILE"]),
        ("run one.yaml --quie", ["No such option", "--quie", "--quiet"]),
        ("run one.yaml a --bogus", ["No such option", "--bogus"]),
        ("runs --limit 0", ["--limit", "0 is not in the range"]),
        ("runs --limit many", ["--limit", "'many' is not a valid integer."]),
        ("prune --keep many", ["--keep", "'many' is not a valid integer."]),
        ("cancel latest --wait long", ["--wait", "'long' is not a valid number."]),
        ("cancel latest --wait -1", ["--wait", "-1.0 is not in the range"]),
    ],
)
def test_mistakes_are_named(line: str, words: list[str]) -> None:
    """The words around these differ between versions of click."""
    with pytest.raises(click.UsageError) as caught:
        values(line)
    message = caught.value.format_message()
    assert [word for word in words if word not in message] == []


def test_a_mistake_that_only_the_command_knows(tmp_path: Path) -> None:
    done = lightflow(tmp_path, "logs", "a", "--task", "b")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: give the task once\nTry: lightflow logs --help\n"


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"completion"}))
def test_every_command_has_a_folder(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.params[-1].name == "directory"


def test_folders_before_and_after_the_command_add_up(tmp_path: Path) -> None:
    (tmp_path / "a" / "b c").mkdir(parents=True)
    (tmp_path / "a" / "b c" / "one.yaml").write_text("workflow_name: one\ntasks: {t: {run: exit 3}}\n", "utf-8")
    done = lightflow(tmp_path, "-C", "a", "run", "-C", "b c", "one.yaml")
    assert done.returncode == 1
    assert "lightflow resume one.yaml -C 'a/b c'\n" in done.stdout
    assert (tmp_path / "a" / "b c" / "lightflow.db").exists()


def test_a_suggested_line_has_only_what_is_needed() -> None:
    assert with_db("lightflow status", "lightflow.db") == "lightflow status"
    assert with_db("lightflow status", "my state.db") == "lightflow status --db 'my state.db'"


@pytest.mark.parametrize(("words", "index"), [("lightflow -C a status ", 4), ("lightflow status -C a ", 4)])
def test_completion_reads_the_state_file_of_the_folder(tmp_path: Path, words: str, index: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.yaml").write_text("workflow_name: one\ntasks: {t: {run: 'true'}}\n", "utf-8")
    assert lightflow(tmp_path, "-C", "a", "run", "one.yaml", "--run-id", "mine", "--quiet").returncode == 0
    env = {"_LIGHTFLOW_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(index)}
    assert lightflow(tmp_path, **env).stdout == "plain,mine\n"


def test_a_file_without_its_suffix_is_named(tmp_path: Path) -> None:
    (tmp_path / "etl.yaml").write_text("workflow_name: etl\ntasks: {t: {run: 'true'}}\n", "utf-8")
    done = lightflow(tmp_path, "run", "etl")
    assert (done.returncode, done.stderr) == (2, 'etl: no such file, did you mean "etl.yaml"?\n')


def test_a_reader_of_bytes_that_leaves_is_not_a_failure(tmp_path: Path) -> None:
    """`lightflow logs big | head -c 1` with `set -o pipefail`: click would end with 1."""
    task = "python3 -c \"print('x' * 5_000_000)\""
    (tmp_path / "one.yaml").write_text(f"workflow_name: one\ntasks: {{t: {{run: {json.dumps(task)}}}}}\n", "utf-8")
    assert lightflow(tmp_path, "run", "one.yaml", "--quiet").returncode == 0
    line = f"{sys.executable} -m lightflow logs t | head -c 1; echo ${{PIPESTATUS[0]}}"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("x0\n", "")
