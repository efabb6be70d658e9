"""A folder with a workflow file, and the installed program at work in it: for tests of the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lightflow.errors import WorkflowError
from lightflow.parser.workflow_loader import loads_workflow

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "lightflow"]


def environment(extra_env: Mapping[str, str] | None = None) -> dict[str, str]:
    """That of these tests, without what would change how the program behaves."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTFLOW_")}
    return {**plain, "PYTHONPATH": str(ROOT), **(extra_env or {})}


def lightflow(
    folder: Path, *arguments: str, extra_env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the program there; it may fail, but not by a fault of ours."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(extra_env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def write(folder: Path, text: str, name: str = "flow.yaml") -> None:
    """Put the workflow there."""
    (folder / name).write_text(textwrap.dedent(text), encoding="utf-8")


def status(folder: Path) -> dict[str, Any]:
    """Return what `lightflow status --json` prints of the latest run."""
    view: dict[str, Any] = json.loads(lightflow(folder, "status", "--json").stdout)
    return view


def problems(text: str) -> str:
    """Return the message of a workflow file that cannot be used."""
    with pytest.raises(WorkflowError) as caught:
        loads_workflow(text, "w.yaml")
    return str(caught.value)
