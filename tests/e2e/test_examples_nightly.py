"""The large example, by the command that the README names: it uses most of the language in one file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "lightflow run examples/nightly/nightly.yaml"


def execute(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "lightflow", *arguments]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def tasks_of(place: Path) -> dict[str, Any]:
    status = json.loads(execute(place, "status", "--json").stdout)
    return {entry["task"]: entry for entry in status["tasks"]}


def test_a_night(place: Path) -> None:
    assert COMMAND in (ROOT / "README.md").read_text(encoding="utf-8")
    execute(place, *COMMAND.split()[1:], "-p", "orders=60")
    tasks = tasks_of(place)
    assert len(tasks) >= 30
    assert {name for name, entry in tasks.items() if entry["status"] != "SUCCESS"} == {
        "holidays",  # it may fail
        "weather",  # its condition is false
        "rebuild",  # the other branch was taken
        "page_the_team",  # nothing has failed
    }
    fetched = tasks["fetch"]["instances"]
    assert [entry["map_key"] for entry in fetched] == ["north", "south", "west", "telephone"]
    assert [len(entry["attempts"]) for entry in fetched] == [1, 2, 1, 2]
    assert len(tasks["sales"]["instances"]) == 9
    night = place / "nightly-out" / "2026-01-31"
    assert len(json.loads((night / "report.json").read_text())["sales"]) == 9
    names = [f"report.{kind}" for kind in ("html", "json", "txt")]
    latest = {path.name for path in (place / "nightly-out" / "latest").iterdir()}
    assert latest == {*names, *(f"{name}.sig" for name in names)}
    notes = (night / "notes.txt").read_text().splitlines()
    assert sorted(notes) == ["fetch stumbled"] * 2 + ["made without the weather", "published 2026-01-31"]
    assert not list(night.glob("work.*")), "what was set up is taken down"
    assert (place / "nightly-out" / "nights.txt").read_text().endswith(" SUCCESS\n")
    key = (ROOT / "examples" / "nightly" / "signing.key").read_bytes().strip()
    for path in place.rglob("*"):
        if path.is_file() and "examples" not in path.relative_to(place).parts:
            assert key not in path.read_bytes(), path


def test_a_night_with_everything_new_and_one_that_goes_wrong(place: Path) -> None:
    path = COMMAND.split()[2]
    execute(place, "run", path, "-p", "orders=60", "-p", "full=true", "-p", "day=2026-02-01")
    tasks = tasks_of(place)
    assert (tasks["rebuild"]["status"], tasks["update"]["status"]) == ("SUCCESS", "SKIPPED")
    assert tasks["weather"]["status"] == "SUCCESS"
    execute(place, "run", path, "-p", "orders=60", "-p", 'regions=["no/where"]', "-p", "day=2026-02-02", code=1)
    assert "was run again" not in (place / "nightly-out").name
    assert "2026-02-02 has failed" in (place / "nightly-out" / "pager.txt").read_text()
    assert not list((place / "nightly-out" / "2026-02-02").glob("work.*")), "taken down although the night failed"
