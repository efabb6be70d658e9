"""A run that cannot be set up says why and ends by itself: its guardian does not kill it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: The command line, on a disk that cannot read one module of the program.
PROGRAM = """
import errno, importlib.abc, os, sys

class BadDisk(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            raise OSError(errno.EIO, os.strerror(errno.EIO), name)
        return None

sys.meta_path.insert(0, BadDisk())
from lightflow.cli.main import main
main(sys.argv[2:])
"""
FLOW = """
workflow_name: flow
tasks:
  a: {run: "true"}
  b: {type: python, run: "print(1)"}
settings: {mode: MODE}
"""


@pytest.mark.parametrize(
    ("mode", "module"),
    [
        ("thread", "liteflow.executors.thread"),
        ("thread", "liteflow.executors.stdout_capture"),
        ("thread", "liteflow.executors.host_guards"),
    ],
)
def test_a_module_that_cannot_be_read_ends_the_run_with_its_error(tmp_path: Path, mode: str, module: str) -> None:
    (tmp_path / "flow.yaml").write_text(FLOW.replace("MODE", mode))
    for _ in range(3):
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM, module, "run", "flow.yaml"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (ended.returncode, ended.stderr) == (5, f"error: {module}: Input/output error\n")
