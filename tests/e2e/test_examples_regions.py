"""The example of the regions, by the commands of its how-to: a region fails, is mended, and runs again from there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightflow.parser.workflow_loader import load_workflow
from liteflow.api import History

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "howto" / "mend-a-night.md"


@pytest.fixture
def execute(tmp_path: Path) -> Callable[..., str]:
    """Run the blocks of a section of the page, or a command, in a folder from which the examples can be reached."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "lightflow").write_text(f'#!/bin/sh\nexec {sys.executable} -m lightflow "$@"\n')
    (tmp_path / "lightflow").chmod(0o755)
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def run(script: str, code: int = 0) -> str:
        command = ["/bin/sh", "-ec", script]
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    return run


def blocks_of(heading: str) -> str:
    """Return the commands in a section of the page; empty text means its beginning."""
    sections = dict(re.findall(r"^#+ (.*?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    return "\n".join(re.findall(r"```bash\n(.*?)```", sections[heading], re.DOTALL))


def test_the_run_gives_the_approval_its_time() -> None:
    """A run that is not parked waits for the approval: a shorter timeout of the run would end it before."""
    spec = load_workflow(str(ROOT / "examples" / "regions" / "regions.yaml"))
    release = spec.tasks["release"]
    assert spec.limits.timeout_s is not None
    assert release.timeout_s is not None
    assert release.timeout_s < spec.limits.timeout_s


def states(text: str) -> dict[str, str]:
    view: dict[str, Any] = json.loads(text)
    rows = {row["task"]: row["status"] for row in view["tasks"]}
    return rows | {f"group {group['id']}": group["status"] for group in view["groups"]}


def attempts(folder: Path) -> dict[str, int]:
    """Return the number of attempts by instance, and of runs of the workflow of a region."""
    with History(str(folder / "lightflow.db")) as history:
        [run] = history.runs("regions")
        counts: dict[str, int] = {"regions loaded": len(history.runs("region", with_children=True))}
        for each in history.attempts(run.run_id):
            name = each.task_id if each.map_index < 0 else f"{each.task_id}[{each.map_index}]"
            counts[name] = counts.get(name, 0) + 1
    return counts


def test_a_night_in_which_a_region_fails_is_mended_from_there(execute: Callable[..., str], tmp_path: Path) -> None:
    execute(blocks_of("Mend a night"), code=1)
    assert (tmp_path / "regions-out" / "pager.txt").read_text() == "2026-01-31 has failed\n"
    view = states(execute("lightflow status latest --json"))
    assert (view["prepare"], view["load"], view["totals"]) == ("SUCCESS", "FAILED", "UPSTREAM_FAILED")
    assert (view["group checks"], view["release"], view["publish"]) == ("UPSTREAM_FAILED",) * 3
    with History(str(tmp_path / "lightflow.db")) as history:
        [child] = [run.run_id for run in history.runs("region", with_children=True) if run.status == "FAILED"]
    shown = execute(blocks_of("Look").replace("CHILD", child))
    assert child in shown
    assert "line 3 has no amount: 2,?" in shown
    assert "load[1]" in shown

    execute(blocks_of("Mend, and run the part again"))
    view = states(execute("lightflow status latest --json"))
    assert (view["load"], view["group checks"], view["release"]) == ("SUCCESS", "SUCCESS", "WAITING")
    assert not (tmp_path / "regions-out" / "published.txt").exists()

    assert "SUCCESS" in execute(blocks_of("Approve"))
    assert (tmp_path / "regions-out" / "published.txt").read_text() == "8 orders: the south is complete\n"
    rows = (tmp_path / "regions-out" / "2026-01-31" / "published").read_text().splitlines()
    assert rows[0] == "order,amount"
    assert len(rows) == 9
    assert attempts(tmp_path) == {
        **dict.fromkeys(["prepare", "load[0]", "load[2]", "totals", "checks.header", "release", "publish"], 1),
        **dict.fromkeys(["checks.complete[0]", "checks.complete[1]", "checks.complete[2]", "on_failure"], 1),
        "load[1]": 2,
        "regions loaded": 4,
    }
