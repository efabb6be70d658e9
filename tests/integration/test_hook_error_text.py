"""Hooks receive the text of an error, also when it contains characters that a program cannot receive."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from liteflow import Dag

MESSAGE = "caf\udce9 \ud800 a\0b"
FLOW = r"""
workflow_name: w
tasks:
  fails:
    type: python
    run: 'raise ValueError("caf\udce9 \ud800 a\0b")'
    on_failure: 'printf %s "$LIGHTFLOW_HOOK_ERROR" > told'
"""


def check(told: str) -> None:
    assert "\\ud800" in told
    assert "a\N{REPLACEMENT CHARACTER}b" in told


def test_a_python_hook_reads_what_no_program_can_be_given_as_an_escape(db: str, tmp_path: Path) -> None:
    def fails() -> None:
        raise ValueError(MESSAGE)

    def tell() -> None:
        (tmp_path / "told").write_bytes(os.environb[b"LIGHTFLOW_HOOK_ERROR"])

    with Dag("d", db) as dag:
        dag.task(fails, "fails", on_failure=tell)
    dag.run(mode="process")
    check((tmp_path / "told").read_text(errors="surrogateescape"))


def test_a_command_reads_it_too(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(FLOW)
    words = [sys.executable, "-m", "lightflow", "run", "f.yaml", "-q"]
    subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    check((tmp_path / "told").read_text(errors="surrogateescape"))
