"""The folder of scheduled workflows, served by the command that its page names."""

from __future__ import annotations

import json
from pathlib import Path

from scheduler_kit import ROOT, fires, rows, runs, serving, until

COMMAND = "lightflow serve --no-ui examples/scheduled"


def test_five_scheduled_workflows(tmp_path: Path) -> None:
    for page in ("examples/README.md", "docs/howto/schedules.md"):
        assert COMMAND in (ROOT / page).read_text(encoding="utf-8"), page
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "data" / "inbox").mkdir(parents=True)
    with serving(tmp_path, *COMMAND.split()[3:]) as server:
        stored = rows(tmp_path, "SELECT trigger_id, next_at FROM liteflow_triggers WHERE kind<>'manual' ORDER BY 1")
        assert [trigger for trigger, _ in stored] == [
            "cleanup:schedule", "heartbeat:schedule", "inbox:file", "report:schedule", "totals:workflow",
        ]  # fmt: skip
        (tmp_path / "data" / "inbox" / "orders.csv").write_text("1\n2\n3\n")
        until(lambda: [run for run in runs(tmp_path, "totals") if run[1] == "SUCCESS"], server)
        until(lambda: [run for run in runs(tmp_path, "heartbeat") if run[1] == "SUCCESS"], server)
    assert (tmp_path / "data" / "total.txt").read_text().split() == ["3"]
    assert "Z " in (tmp_path / "data" / "free_space.txt").read_text()
    assert json.loads(fires(tmp_path, "inbox:file")[0][3]) == {"input": str(tmp_path / "data" / "inbox" / "orders.csv")}
