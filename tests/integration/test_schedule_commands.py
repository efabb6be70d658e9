"""`lightflow schedule` without a server: the preview of a file, and what is exported."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from flow_folder import lightflow, write

FLOW = """
workflow_name: nightly
params: {day: {type: date, default: today}, mode: fast}
schedule:
  - {cron: "30 2 * * 1-5", params: {mode: "50% $HOME"}}
  - {every: 15m}
  - {every: 7m}
  - {cron: "0 3 * * *", timezone: Asia/Kolkata}
  - {cron: "0 3 * * *", jitter: 1m}
on: {workflow: fetch}
tasks: {t: {run: 'echo ${{ params.day }}'}}
"""


def test_the_preview_of_a_file_needs_no_server(tmp_path: Path) -> None:
    text = 'schedule: {cron: "30 2 * * *", timezone: Europe/Berlin}\ntasks: {t: {run: x}}'
    write(tmp_path, text, "berlin.yaml")
    done = lightflow(tmp_path, "schedule", "next", "berlin.yaml", "--from", "2026-03-28", "-n", "2", "--json")
    assert [(fire["at"], fire["local"]) for fire in json.loads(done.stdout)] == [
        ("2026-03-28T01:30:00.000Z", "2026-03-28 02:30:00+0100"),
        ("2026-03-29T01:00:00.000Z", "2026-03-29 03:00:00+0200"),
    ]
    assert os.listdir(tmp_path) == ["berlin.yaml"]


def test_lines_for_cron_and_what_cron_cannot_do(tmp_path: Path) -> None:
    write(tmp_path, FLOW, "nightly.yaml")
    done = lightflow(tmp_path, "schedule", "export", "crontab", ".", extra_env={"TZ": "UTC"})
    assert done.returncode == 2
    first, second = done.stdout.splitlines()
    assert first.startswith(f"30 2 * * 1-5 cd {tmp_path} && ")
    assert first.endswith("--logical-date now --quiet -p 'mode=50\\% $HOME'")
    assert second.startswith("*/15 * * * * ")
    refusals = done.stderr.splitlines()
    assert [line.split(": ")[1] for line in refusals] == [
        "nightly:schedule:3", "nightly:schedule:4", "nightly:schedule:5", "nightly:workflow",
    ]  # fmt: skip


def test_the_unit_is_valid(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    done = lightflow(folder, "schedule", "export", "systemd", "workflows", "more 100%")
    assert "KillMode=process" in done.stdout
    assert "OOMPolicy=continue" in done.stdout
    assert f"WorkingDirectory={folder}" in done.stdout
    assert 'workflows "more 100%%"' in done.stdout
    assert "--no-ui" not in done.stdout
    without = lightflow(folder, "schedule", "export", "systemd", "--no-ui", "workflows", "more 100%")
    assert without.stdout.replace(" serve --no-ui", " serve") == done.stdout
    unit = tmp_path / "lightflow.service"
    lines = done.stdout.splitlines()
    command = next(line for line in lines if line.startswith("ExecStart="))
    unit.write_text(done.stdout.replace(command, command.replace(command.split("=", 1)[1].split()[0], "/bin/true")))
    program = shutil.which("systemd-analyze")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("systemd-analyze is missing")
        pytest.skip("systemd-analyze is missing")
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    checked = subprocess.run(
        [program, "--user", "--man=no", "verify", str(unit)],
        capture_output=True, text=True, check=False, timeout=60, env=environment,
    )  # fmt: skip
    own_lines = [line for line in checked.stderr.splitlines() if "lightflow.service" in line]
    assert own_lines == []


def test_a_mistake_in_a_file_is_reported(tmp_path: Path) -> None:
    write(tmp_path, "schedule: '0 0 30 2 *'\ntasks: {t: {run: x}}", "bad.yaml")
    for command in (("next", "bad.yaml"), ("export", "crontab", "bad.yaml")):
        done = lightflow(tmp_path, "schedule", *command)
        assert done.returncode == 2
        assert "bad.yaml:1:11: schedule" in done.stderr


def test_an_unknown_trigger_has_a_hint(tmp_path: Path) -> None:
    write(tmp_path, "tasks: {t: {run: 'true'}}")
    lightflow(tmp_path, "run", "flow.yaml")
    for action in ("pause", "fire"):
        done = lightflow(tmp_path, "schedule", action, "nothing")
        assert done.returncode != 0
        assert "there is no trigger or workflow 'nothing'" in done.stderr
    assert "no triggers yet" in lightflow(tmp_path, "schedule").stdout
