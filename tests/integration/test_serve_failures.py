"""What fails in a turn of the scheduler hurts only what it concerns, is logged once, and shown."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from flow_folder import lightflow, write
from scheduler_kit import end, fires, log, serving, start, until
from server_kit import serving as answering

TICK = """
workflow_name: tick
schedule: {every: 1s}
tasks:
  t: {run: "echo tick"}
"""
FILES = """
workflow_name: load
params: {input: {type: path, default: none}}
on:
  file: {path: "inbox/*.csv", settle: 0s, param: input}
  workflow: {name: [other]}
tasks:
  load: {run: "echo load"}
"""


def change(folder: Path, sql: str, *parameters: object) -> None:
    """Alter the state file as another program could."""
    with sqlite3.connect(folder / "lightflow.db", timeout=30) as connection:
        connection.execute(sql, parameters)
    connection.close()


def stored(folder: Path, *texts: str) -> None:
    """Write workflows, and have a server store their triggers."""
    for number, text in enumerate(texts):
        write(folder, text, f"w{number}.yaml")
    with serving(folder):
        pass


def ticks(folder: Path) -> int:
    return sum(status == "STARTED" for status, *_ in fires(folder, "tick:schedule"))


def test_a_trigger_that_fails_hurts_no_other_and_is_logged_once(tmp_path: Path) -> None:
    stored(tmp_path, TICK, FILES)
    change(tmp_path, "UPDATE liteflow_triggers SET spec=? WHERE kind='file'", json.dumps({"path": "in\0box/*"}))
    change(tmp_path, "UPDATE liteflow_triggers SET watermark=? WHERE kind='workflow'", "9" * 30)
    before = ticks(tmp_path)
    with answering(tmp_path, "serve") as server:
        until(lambda: ticks(tmp_path) >= before + 4)
        failures = server.get("/api/v1/system")["scheduler"]["failures"]
        assert {each["subject"] for each in failures} == {"load:file", "load:workflow"}
        assert server.request("GET", "/healthz", token=None).status == 200
        server.process.terminate()
        _, errors = server.process.communicate(timeout=120)
    assert errors.count("Traceback") == 2
    assert errors.count("load:file: a defect of Lightflow") == errors.count("load:workflow: a defect of Lightflow") == 1


def test_a_fire_whose_parameters_were_altered_fails_alone(tmp_path: Path) -> None:
    stored(tmp_path, TICK)
    sql = (
        "INSERT INTO liteflow_fires (trigger_id, key, at, due_at, status, run_id, params) "
        "VALUES ('tick:manual', 'k', 0, 0, 'WAITING', 'r', ?)"
    )
    change(tmp_path, sql, "[" * 100_000)
    server = start(tmp_path)
    try:
        until(lambda: [fire[:3] for fire in fires(tmp_path, "tick:manual")]
              == [("FAILED", "r", "ValueError: the parameters of fire 1 cannot be read")], server)  # fmt: skip
        until(lambda: ticks(tmp_path) > 0, server)
    finally:
        assert end(server) == 0


def test_a_state_file_that_cannot_be_opened_again_is_tried_until_it_can(tmp_path: Path) -> None:
    write(tmp_path, TICK)
    server = start(tmp_path)
    try:
        until(lambda: ticks(tmp_path) > 0, server)
        database = tmp_path / "lightflow.db"
        (tmp_path / "other").write_text("this is no database" * 1000)
        (tmp_path / "other").replace(database)
        report = f"problem: {database}: is not a SQLite database"  # a run that was to start fails by the same words
        until(lambda: report in log(tmp_path), server)
        database.unlink()
        until(lambda: ticks(tmp_path) > 0, server)
        assert log(tmp_path).count(report) == 1
    finally:
        assert end(server) == 0


def test_triggers_whose_workflow_has_gone_rest_until_it_is_back(tmp_path: Path) -> None:
    def problems() -> dict[str, str]:
        listed = json.loads(lightflow(tmp_path, "schedule", "--json").stdout)["triggers"]
        return {each["trigger"]: f"{each['state']} {each['next_at']} {each['problem']}" for each in listed}

    yearly = TICK.replace("every: 1s", 'cron: "0 0 1 1 *"')
    for name in ("renamed", "removed", "gone"):
        write(tmp_path, yearly.replace("tick", name), f"{name}.yaml")
    with serving(tmp_path):
        assert {text.split()[0] for text in problems().values()} == {"active"}
        write(tmp_path, yearly.replace("tick", "other"), "renamed.yaml")
        (tmp_path / "removed.yaml").unlink()
        until(lambda: "other:schedule" in problems() and "problem None" in problems()["removed:schedule"])
        seen = problems()
        assert seen["renamed:schedule"].endswith("renamed.yaml no longer has workflow 'renamed'; its triggers rest")
        assert seen["removed:schedule"].endswith("removed.yaml does not exist; its triggers rest")
        assert seen["gone:schedule"].startswith("active ")
        write(tmp_path, yearly.replace("tick", "removed"), "removed.yaml")
        until(lambda: problems()["removed:schedule"].startswith("active "))
    (tmp_path / "gone.yaml").unlink()
    with serving(tmp_path, "removed.yaml"):
        seen = problems()
        assert seen["gone:schedule"].endswith("gone.yaml does not exist; its triggers rest")
        assert seen["other:schedule"].endswith("renamed.yaml is not served; its triggers rest")
        assert seen["removed:schedule"].startswith("active ")


def test_a_failure_is_shown_until_what_it_concerns_works_or_is_gone(tmp_path: Path) -> None:
    stored(tmp_path, FILES, FILES.replace("load", "left"))
    change(tmp_path, "UPDATE liteflow_triggers SET spec=? WHERE kind='file'", json.dumps({"path": "in\0box/*"}))
    change(tmp_path, "UPDATE liteflow_triggers SET spec='no JSON' WHERE kind='manual'")
    with answering(tmp_path, "serve") as server:

        def failing() -> set[str]:
            return {each["subject"] for each in server.get("/api/v1/system")["scheduler"]["failures"]}

        until(lambda: failing() == {"load:file", "left:file", "load:manual", "left:manual"})
        (tmp_path / "w1.yaml").unlink()
        until(lambda: failing() == {"load:file", "load:manual"})
        change(tmp_path, "UPDATE liteflow_triggers SET spec='{}' WHERE kind='manual'")
        until(lambda: failing() == {"load:file"})
