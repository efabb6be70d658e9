"""The shortest way to see that tasks are executed: one small workflow in each mode, by the functions behind `run`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightflow.service.runs import RunOptions, run
from liteflow import Status
from liteflow.state.history import History

WORKFLOW = """
workflow_name: smoke
tasks:
  numbers:
    run: seq 1 100 > numbers.txt
  total:
    type: python
    run: |
      import json, pathlib
      numbers = [int(line) for line in pathlib.Path("numbers.txt").read_text().split()]
      pathlib.Path("total.json").write_text(json.dumps(sum(numbers)))
    depends_on: [numbers]
  refuses:
    run: exit 3
    depends_on: [numbers]
  never:
    run: touch never
    depends_on: [refuses]
settings:
  retries: 1
"""


@pytest.mark.parametrize("mode", ["thread", "process", "async"])
def test_a_workflow_runs_in_every_mode(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("smoke.yaml").write_text(WORKFLOW, encoding="utf-8")
    notes: list[str] = []
    done = run("smoke.yaml", RunOptions(mode=mode), notify=notes.append)
    assert done.status == Status.FAILED
    assert done.statuses() == {
        "numbers": "SUCCESS",
        "total": "SUCCESS",
        "refuses": "FAILED",
        "never": "UPSTREAM_FAILED",
    }
    assert json.loads(Path("total.json").read_text(encoding="utf-8")) == 5050
    assert not Path("never").exists()
    with History("lightflow.db") as history:
        assert [entry.exit_code for entry in history.attempts(done.run_id, "refuses")] == [3, 3]
    assert notes == []
