"""Ctrl-C while the command is still starting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

#: a finder that interrupts the program when it imports the module that is named
INTERRUPT = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize(
    "module",
    ["lightflow.cli", "lightflow.cli.main", "lightflow.cli.error_boundary", "click", "yaml", "lightflow.engine.logger"],
)
def test_an_interrupt_while_a_module_is_imported_prints_no_traceback(module: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPT)
    (tmp_path / "f.yaml").write_text("workflow_name: w\ntasks: {a: {run: 'true'}}\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "INTERRUPT_AT": module}
    arguments = ["--help"] if module == "click" else ["run", "f.yaml"]
    done = subprocess.run(
        [sys.executable, "-m", "lightflow", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert (done.returncode, done.stderr.strip()) == (130, "interrupted")
