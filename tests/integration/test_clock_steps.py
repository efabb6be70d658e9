"""The clock is set while a server works: no instant runs twice, what was jumped over is recorded, and it goes on."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

from clock_kit import SteppedClock
from scheduler_kit import end, log, rows, start, until
from server_kit import serving

FLOW = """
workflow_name: w
schedule: {every: 1m, overlap: allow}
tasks: {t: {run: 'echo "$LIGHTFLOW_SCHEDULED_AT" >> trail'}}
"""
HOUR, YEAR = 3600, 365 * 86400
STEPS = (120, 2 * HOUR, -3 * HOUR, 1, 10 * YEAR, -10 * YEAR, 65, 400)


def test_no_instant_runs_twice_and_the_schedule_goes_on(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(FLOW)
    clock = SteppedClock(tmp_path)
    server = start(tmp_path, first_path=clock.path)
    try:
        until(lambda: "serves 1 workflow" in log(tmp_path), server)
        for step in STEPS:
            reports = log(tmp_path).count("the clock was set")
            clock.step(step)
            if abs(step) > 2:
                until(lambda before=reports: log(tmp_path).count("the clock was set") > before, server)
            if step < 0:
                continue
            # The instant of the minute in which the clock stands now is due, or was decided before.
            until(lambda: decided(tmp_path, clock.now() - 60), server)
        clock.step(61)
        until(lambda: started_since(tmp_path, clock.now() - 90), server)
        until(lambda: not rows(tmp_path, "SELECT 1 FROM liteflow_fires WHERE status IN ('CLAIMED', 'WAITING')"), server)
        started = rows(tmp_path, "SELECT run_id FROM liteflow_fires WHERE status='STARTED'")
        until(lambda: len(trail(tmp_path)) >= len(started), server)
    finally:
        assert end(server) == 0
    assert Counter(trail(tmp_path)).most_common(1)[0][1] == 1
    assert len(trail(tmp_path)) == len(started)
    missed = rows(tmp_path, "SELECT reason FROM liteflow_fires WHERE status='MISSED'")
    assert any("instants from" in str(reason) for (reason,) in missed)  # ten years are one row and the newest hundred
    assert len(missed) < 500
    assert "Traceback" not in log(tmp_path)


def trail(folder: Path) -> list[str]:
    path = folder / "trail"
    return path.read_text().split() if path.exists() else []


def decided(folder: Path, moment: float) -> bool:
    """Return whether the instants up to a moment are decided."""
    try:
        watermarks = rows(folder, "SELECT strftime('%s', watermark) FROM liteflow_triggers WHERE kind='schedule'")
    except sqlite3.OperationalError:
        return False
    return any(mark is not None and int(mark) >= moment - 60 for (mark,) in watermarks)


def started_since(folder: Path, moment: float) -> bool:
    sql = "SELECT 1 FROM liteflow_fires WHERE status='STARTED' AND at BETWEEN ? AND ?"
    return bool(rows(folder, sql, moment, moment + 120))  # not an instant of a step before


def test_the_uptime_of_a_server_is_not_that_of_its_clock(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(FLOW)
    clock = SteppedClock(tmp_path)
    with serving(tmp_path, "serve", "--no-scheduler", first_path=clock.path) as server:
        clock.step(-2 * HOUR)
        assert server.get("/api/v1/system")["uptime_s"] >= 0
        clock.step(10 * YEAR)
        assert server.get("/api/v1/system")["uptime_s"] < YEAR
