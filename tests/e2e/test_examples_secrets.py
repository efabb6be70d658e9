"""The example of secrets and dotenv files: it runs, and what it makes holds none of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "secrets" / "secrets.yaml"


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_the_example_of_secrets(tmp_path: Path, mode: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lightflow", "run", str(EXAMPLE), "--mode", mode],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "API_TOKEN": "tok-1234-abcd"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    logs = {path.name.split("_")[1]: path.read_text() for path in (tmp_path / "logs").iterdir()}
    assert "would ask https://api.example.org/v1 with: header" in logs["login"]
    assert "Bearer ***" in logs["login"]
    assert "key: b'***'" in logs["sign"]
    assert logs["upload"] == "would send session=***, and *** as one word\n"
    for path in tmp_path.rglob("*"):
        if path.is_file():
            result = path.read_bytes()
            assert not any(entry in result for entry in (b"tok-1234", b"dG9rLTEyMzQt", b"not-a-real", b"session-1"))
