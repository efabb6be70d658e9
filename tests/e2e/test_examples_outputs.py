"""The example of outputs: every way to hand a value on, from shell to Python and back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "outputs" / "outputs.yaml"


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_the_example_of_outputs(tmp_path: Path, mode: str) -> None:
    program = tmp_path / "bin" / "lightflow"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lightflow "$@"\n')
    program.chmod(0o755)
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{program.parent}:{os.environ['PATH']}"}

    def lightflow(*arguments: str) -> str:
        done = subprocess.run(
            [program, *arguments], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    lightflow("run", str(EXAMPLE), "--mode", mode)
    result = {
        (entry["task"], entry["key"]): entry["value"] for entry in json.loads(lightflow("outputs", "--json"))["outputs"]
    }
    assert result["settings", "return_value"] == {"greeting": "hello", "times": 2}
    assert result["count", "entries"] == len(result["measure", "listing"].splitlines())
    assert result["judge", "verdict"] in ("usual", "unusual")
    assert f"{result['version', 'return_value']}: {result['count', 'entries']} entries" in lightflow("logs", "report")
