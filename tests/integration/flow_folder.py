"""A folder with a workflow file, and the installed program at work in it: for tests of the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

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


def write(folder: Path, text: str) -> None:
    """Put the workflow there."""
    (folder / "flow.yaml").write_text(textwrap.dedent(text))
