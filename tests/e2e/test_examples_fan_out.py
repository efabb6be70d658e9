"""The examples of fan-out, in a file and in Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "fan-out"


def lightflow(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lightflow", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def value(folder: Path, task: str, key: str = "return_value") -> object:
    return json.loads(lightflow(folder, "outputs", task, "--key", key, "--json"))


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_the_file(tmp_path: Path, mode: str) -> None:
    lightflow(tmp_path, "run", str(FOLDER / "fan_out.yaml"), "--mode", mode)
    assert value(tmp_path, "measure", "words") == ["5", "6", "1"]
    assert value(tmp_path, "report") == {"rose": 5, "to be": 6, "one": 1}
    assert value(tmp_path, "build") == [
        "english.html A page",
        "english.pdf no title",
        "french.html no title",
        "latin.txt no title",
    ]
    assert lightflow(tmp_path, "logs", "measure[1]") == "instance 1 counted to be\n"
    assert lightflow(tmp_path, "logs", "done") == "4 pages\n"
    assert "measure[1]" in lightflow(tmp_path, "status")
    assert "measure ×3" in lightflow(tmp_path, "dag", "--run", "latest", "--format", "mmd")


def test_a_plan_of_the_file(tmp_path: Path) -> None:
    output = lightflow(tmp_path, "run", str(FOLDER / "fan_out.yaml"), "--dry-run")
    assert "english, html, A page" in output
    assert "each of ${{ tasks.make.result }}" in output
    output = lightflow(tmp_path, "run", str(FOLDER / "fan_out.yaml"), "--dry-run", "-p", "languages=german,latin")
    assert "echo german.pdf" in output


def test_in_python(tmp_path: Path) -> None:
    lightflow(tmp_path, "run", str(FOLDER / "fan_out.py"))
    assert value(tmp_path, "measure") == [5, 6]
    assert value(tmp_path, "total") == 11
    assert value(tmp_path, "build") == [
        "ENGLISH.html A page",
        "ENGLISH.pdf A page",
        "FRENCH.html A page",
        "FRENCH.pdf A page",
    ]
    assert "measure[2] is SKIPPED: it skipped itself: empty has only 0 words" in lightflow(
        tmp_path, "why", "measure[2]"
    )
