"""Workflow files whose tasks execute other files: values, failures, retries and logs, by the command line."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from liteflow.api import History

LIMIT_S = 120.0

PARENT = """
params: {day: "2026-01-31"}
tasks:
  list:
    run: echo 'regions=["eu","us","asia"]' >> "$LIGHTFLOW_OUTPUT"
  load:
    type: workflow
    file: parts/region.yaml
    params: {region: "${{ item }}", day: "${{ params.day }}"}
    foreach: {items: "${{ tasks.list.outputs.regions | from_json }}", key: "${{ item }}"}
    env: {STAGE: test}
  report:
    env: {ROWS: "${{ tasks.load.outputs.rows }}"}
    run: echo "report $ROWS"
"""
REGION = """
params:
  region: {type: string}
  day: {type: date}
tasks:
  fetch: {run: 'echo "fetch ${{ params.region }} $STAGE" >> ran'}
  count:
    depends_on: fetch
    run: |
      echo "count ${{ params.region }}" >> ran
      test ! -e fail.${{ params.region }} || { echo "${{ params.region }} has failed"; exit 1; }
      echo "rows=${{ params.region }}7" >> "$LIGHTFLOW_OUTPUT"
  extra: {if: "false", run: echo}
outputs:
  rows: ${{ tasks.count.outputs.rows }}
  day: ${{ params.day }}
  none: ${{ tasks.extra.outputs.value }}
  fixed: [1, 2]
"""
REGIONS = ("eu", "us", "asia")
EXPECTED = sorted(line for region in REGIONS for line in (f"fetch {region} test", f"count {region}"))


def lightflow(*arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "lightflow", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def as_json(*arguments: str) -> Any:
    return json.loads(lightflow(*arguments, "--json"))


def ran() -> list[str]:
    return sorted(Path("ran").read_text().splitlines())


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("parts")
    Path("nightly.yaml").write_text(PARENT)
    Path("parts/region.yaml").write_text(REGION)


def values_of(task: str, index: int | None) -> dict[str, Any]:
    outputs = as_json("outputs", "latest")["outputs"]
    return {each["key"]: each["value"] for each in outputs if (each["task"], each["map_index"]) == (task, index)}


def test_each_region_has_a_child_run_with_outputs() -> None:
    lightflow("validate", "nightly.yaml")
    lightflow("run", "nightly.yaml", "-p", "day=2026-02-01")
    outputs = {"rows": "eu7", "day": "2026-02-01", "none": None, "fixed": [1, 2]}
    assert values_of("load", 0)["return_value"] | {"day": "2026-02-01"} == outputs
    assert 'report ["eu7","us7","asia7"]' in lightflow("logs", "--task", "report")
    log = lightflow("logs", "--task", "load[1]")
    assert "region: run" in log
    assert "count SUCCESS" in log
    assert ran() == EXPECTED


@pytest.mark.parametrize("command", ["resume", "retry"])
def test_a_region_that_failed_goes_on_from_its_failed_task(command: str) -> None:
    Path("fail.us").touch()
    lightflow("run", "nightly.yaml", code=1)
    view = as_json("status")
    load = next(task for task in view["tasks"] if task["task"] == "load")
    assert [each["status"] for each in load["instances"]] == ["SUCCESS", "FAILED", "SUCCESS"]
    assert "is FAILED: count: exit code 1" in load["instances"][1]["reason"]
    assert load["instances"][1]["attempts"][0]["codes"] == ["workflow:failed"]
    os.unlink("fail.us")
    lightflow(command, view["run_id"])
    assert ran() == sorted([*EXPECTED, "count us"])
    assert values_of("load", 1)["rows"] == "us7"


def test_a_value_that_only_a_run_knows_is_checked_before_the_child_run_starts() -> None:
    Path("nightly.yaml").write_text(PARENT.replace("${{ params.day }}", "${{ item }}"))
    lightflow("validate", "nightly.yaml")
    lightflow("run", "nightly.yaml", code=1)
    load = next(task for task in as_json("status")["tasks"] if task["task"] == "load")
    assert "params.day: must be a date" in load["instances"][0]["reason"]
    assert load["instances"][0]["attempts"][0]["codes"] == ["workflow:refused"]
    assert not os.path.exists("ran")


def test_a_child_run_in_a_folder_that_does_not_exist_fails_at_once() -> None:
    Path("top.yaml").write_text("tasks: {a: {type: workflow, file: nightly.yaml, cwd: nowhere}}\n")
    lightflow("run", "top.yaml", code=1)
    (task,) = as_json("status")["tasks"]
    assert "No such file or directory" in task["reason"]
    assert "polls" not in task["reason"]
    assert task["attempts"][0]["codes"] != ["workflow:died"]


def test_a_workflow_of_the_same_file_and_a_python_file() -> None:
    Path("two.yaml").write_text(
        "workflow_name: first\ntasks:\n  a: {type: workflow, workflow: second, params: {n: 2}}\n"
        "  b: {type: workflow, file: dags.py, workflow: third}\n"
        "---\nworkflow_name: second\nparams: {n: 1}\ntasks: {c: {run: 'echo second ${{ params.n }} >> ran'}}\n"
    )
    Path("dags.py").write_text(
        "from liteflow import Dag\nwith Dag('third') as dag:\n"
        "    dag.outputs['seven'] = dag.task(lambda: 7, task_id='x')\n"
    )
    lightflow("run", "two.yaml")
    assert ran() == ["second 2"]
    outputs = as_json("outputs", "latest")["outputs"]
    assert [each["value"] for each in outputs if each["key"] == "seven"] == [7]


def test_each_child_run_of_a_task_that_is_repeated_knows_its_iteration() -> None:
    Path("top.yaml").write_text(
        "tasks:\n  a:\n    type: workflow\n    file: sub.yaml\n    repeat: {until: outputs.total == 6, max: 5}\n"
        "    params: {n: '${{ iteration }}', before: '${{ previous.outputs.total | default(0) }}'}\n"
    )
    Path("sub.yaml").write_text(
        "params: {n: 0, before: 0}\ntasks: {b: {run: 'true'}}\noutputs: {total: '${{ params.n + params.before }}'}\n"
    )
    lightflow("run", "top.yaml")
    assert values_of("a", None)["total"] == 6  # 1 + 2 + 3
    assert [run["params"] for run in as_json("runs", "--all") if run["workflow"] == "sub"] == [
        {"n": 3, "before": 3},
        {"n": 2, "before": 1},
        {"n": 1, "before": 0},
    ]


def test_a_dry_run_and_a_picture_name_the_workflow() -> None:
    assert "workflow parts/region.yaml" in lightflow("run", "nightly.yaml", "--dry-run")
    lightflow("dag", "nightly.yaml", "--output", "flow.mmd")
    assert "region.yaml" in Path("flow.mmd").read_text()


def test_secrets_and_the_day_go_to_the_child_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hunter2-long")
    Path("top.yaml").write_text("secrets: [TOKEN]\ntasks: {a: {type: workflow, file: sub.yaml, secrets: [TOKEN]}}\n")
    Path("sub.yaml").write_text(
        "secrets: [TOKEN]\ntasks:\n"
        "  a: {secrets: [TOKEN], run: 'echo got $TOKEN; echo ${{ run.logical_date }} > day'}\n"
    )
    lightflow("run", "top.yaml", "--date", "2026-03-04")
    assert Path("day").read_text().startswith("2026-03-04")
    assert not any("hunter2" in path.read_text() for path in Path("logs").iterdir())


def test_a_secret_is_no_parameter_of_a_child_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hunter2-long")
    Path("sub.yaml").write_text("params: {token: x}\ntasks: {a: {run: 'true'}}\n")
    text = "secrets: [TOKEN]\ntasks: {a: {type: workflow, file: sub.yaml, params: {token: %s}}}\n"
    Path("top.yaml").write_text(text % '"${{ secrets.TOKEN }}"')
    assert "a secret is not allowed here" in lightflow("run", "top.yaml", code=2)
    Path("top.yaml").write_text(text % "\"hunter2${{ '-long' }}\"")
    assert "parameters are stored" in lightflow("run", "top.yaml", code=1)
    assert not any(b"hunter2" in path.read_bytes() for path in Path().glob("lightflow.db*"))


def test_an_interruption_leaves_queued_child_runs_as_they_are() -> None:
    Path("top.yaml").write_text(
        "settings: {max_parallel_tasks: 1}\ntasks: {a: {type: workflow, file: sub.yaml, foreach: {items: [1, 2, 3]}}}\n"
    )
    Path("sub.yaml").write_text("tasks: {s: {run: 'echo x >> began; test -e go || sleep 600'}}\n")
    with subprocess.Popen([sys.executable, "-m", "lightflow", "run", "top.yaml", "--quiet"]) as process:
        give_up = time.monotonic() + LIMIT_S
        while not os.path.exists("began"):
            assert time.monotonic() < give_up
            time.sleep(0.02)
        process.terminate()
        assert process.wait(LIMIT_S) == 128 + 15
    (task,) = as_json("status")["tasks"]
    assert [each["status"] for each in task["instances"]] == ["WAITING"] * 3
    assert not any("failed" in each["reason"] for each in task["instances"])
    Path("go").touch()
    lightflow("resume", "top.yaml")
    assert len(Path("began").read_text().split()) == 4


def test_runs_status_and_why_know_child_runs() -> None:
    Path("fail.us").touch()
    lightflow("run", "nightly.yaml", code=1)
    assert [run["workflow"] for run in as_json("runs")] == ["nightly"]
    every = {run["run_id"]: run for run in as_json("runs", "--all")}
    assert sorted(run["workflow"] for run in every.values()) == ["nightly", "region", "region", "region"]
    view = as_json("status")
    assert sorted((child["parent"]["map_index"], child["status"]) for child in view["child_runs"]) == [
        (0, "SUCCESS"),
        (1, "FAILED"),
        (2, "SUCCESS"),
    ]
    (failed,) = (child["run_id"] for child in view["child_runs"] if child["status"] == "FAILED")
    assert every[failed]["parent"] == {"run_id": view["run_id"], "task": "load", "map_index": 1}
    table = lightflow("status")
    assert "CHILD RUN OF" in table
    assert failed in table
    assert f"its child run of region is FAILED; `lightflow status {failed}`" in lightflow("why", "load[1]")
    assert f"task load[1] of run {view['run_id']}" in lightflow("status", failed)
    os.unlink("fail.us")
    lightflow("retry", failed)
    lightflow("resume", view["run_id"])
    assert ran() == sorted([*EXPECTED, "count us"])


def test_commands_take_an_instance_by_its_label() -> None:
    Path("fail.us").touch()
    lightflow("run", "nightly.yaml", code=1)
    log = lightflow("logs", "load[us]")
    assert "count FAILED" in log
    (hint,) = [line.partition(": ")[2] for line in log.splitlines() if line.startswith("output of count")]
    assert lightflow(*shlex.split(hint)[1:]) == "us has failed\n"
    logs = as_json("logs", "--task", "load[us]")
    assert (logs["task"], logs["status"], len(logs["attempts"])) == ("load[1]", "FAILED", 1)
    assert lightflow("outputs", "load[eu]", "--key", "rows") == "eu7\n"
    assert as_json("why", "load[us]")["because"] == as_json("why", "load[1]")["because"]
    assert "did you mean 'asia'?" in lightflow("logs", "load[asi]", code=3)
    assert "name one of load[0], load[1]" in lightflow("logs", "load[??]", code=3)


@pytest.mark.parametrize("name", ["load[1]", "load[us]"])
def test_the_status_of_an_instance_shows_it_with_its_child_run(name: str) -> None:
    Path("fail.us").touch()
    lightflow("run", "nightly.yaml", code=1)
    view = as_json("status", "--task", name)
    (task,) = view["tasks"]
    assert [(each["map_index"], each["status"], len(each["attempts"])) for each in task["instances"]] == [
        (1, "FAILED", 1)
    ]
    assert [child["parent"]["map_index"] for child in view["child_runs"]] == [1]


def test_why_leaves_out_a_child_run_that_another_one_has_replaced() -> None:
    Path("fail.us").touch()
    lightflow("run", "nightly.yaml", code=1)
    assert any("its child run of region is FAILED" in each for each in as_json("why", "load[us]")["because"])
    os.unlink("fail.us")
    lightflow("retry", "latest", "--from", "load[us]")
    assert not any("FAILED" in each for name in ("load", "load[us]") for each in as_json("why", name)["because"])


def test_a_decision_in_a_child_run_is_shown_by_the_parent() -> None:
    Path("top.yaml").write_text("tasks: {a: {type: workflow, file: ask.yaml}}\n")
    Path("ask.yaml").write_text(
        "tasks: {ok: {type: approval, message: go}}\noutputs: {by: '${{ tasks.ok.outputs.by }}'}\n"
    )
    command = [sys.executable, "-m", "lightflow", "run", "top.yaml", "--quiet"]
    with subprocess.Popen(command) as process:
        give_up = time.monotonic() + LIMIT_S
        asked: list[Any] = []
        while not asked:
            assert time.monotonic() < give_up
            time.sleep(0.05)
            views = as_json("status")["child_runs"] if os.path.exists("lightflow.db") and as_json("runs") else []
            asked = [(view["run_id"], name) for view in views for name in view["approvals"]]
        ((run_id, name),) = asked
        assert f"lightflow approve {run_id} {name}" in lightflow("status")
        reasons = lightflow("why", "a")
        assert f"lightflow approve {run_id} {name}" in reasons
        assert "next look" not in reasons  # the child run is being executed
        lightflow("approve", run_id, name, "--by", "ann")
        assert process.wait(LIMIT_S) == 0
    assert values_of("a", None)["by"] == "ann"


def test_a_decision_in_a_parked_child_run_counts_while_its_parent_runs() -> None:
    Path("top.yaml").write_text(
        "workflow_name: top\ntasks:\n  part: {type: workflow, workflow: middle}\n"
        "  file: {type: wait, file: there, every: 1s}\n"
        "---\nworkflow_name: middle\ntasks: {inner: {type: workflow, workflow: inner}}\n"
        "---\nworkflow_name: inner\ntasks: {ok: {type: approval, message: 'Go?'}}\n",
        encoding="utf-8",
    )

    def statuses(wanted: str) -> dict[str, str]:
        give_up = time.monotonic() + LIMIT_S
        while True:
            runs = as_json("runs", "--all") if os.path.exists("lightflow.db") else []
            states = {run["run_id"]: run["status"] for run in runs}
            if len(states) == 3 and [*states.values()].count(wanted) == 2:
                return states
            assert time.monotonic() < give_up, states
            time.sleep(0.1)

    with subprocess.Popen([sys.executable, "-m", "lightflow", "run", "top.yaml", "--park", "--quiet"]) as process:
        lightflow("approve", max(statuses("INTERRUPTED"), key=len), "ok")
        assert "RUNNING" in statuses("SUCCESS").values(), "the run at the top still waits for its file"
        Path("there").touch()
        assert process.wait(LIMIT_S) == 0


def test_a_run_whose_child_runs_only_wait_parks_as_a_whole() -> None:
    Path("top.yaml").write_text(
        "workflow_name: top\ntasks:\n  part: {type: workflow, workflow: middle}\n  other: {run: sleep 0.3}\n"
        "---\nworkflow_name: middle\ntasks:\n  inner: {type: workflow, workflow: inner, foreach: [1, 2]}\n"
        "---\nworkflow_name: inner\ntasks:\n  first: {run: 'true'}\n"
        "  ok: {type: approval, message: 'Go?', depends_on: first}\n",
        encoding="utf-8",
    )
    lightflow("run", "top.yaml", "--park")
    with History("lightflow.db") as history:
        runs = history.runs(with_children=True)
        assert [(run.dag_id, run.status) for run in runs] == [
            (name, "INTERRUPTED") for name in ("inner", "inner", "middle", "top")
        ]
        assert all(str(run.reason).startswith("parked: it waits until ") for run in runs)
        (parked,) = history.parked_runs()
        assert (parked.dag_id, parked.has_answer) == ("top", False)
    lightflow("approve", runs[0].run_id, "ok")
    with History("lightflow.db") as history:
        assert history.parked_runs()[0].has_answer, "a decision in a child run wakes the run that is parked"
    lightflow("resume", "top.yaml", "--park")
    lightflow("approve", runs[1].run_id, "ok")
    lightflow("resume", "top.yaml", "--park")
    with History("lightflow.db") as history:
        assert {run.status for run in history.runs(with_children=True)} == {"SUCCESS"}
        assert history.parked_runs() == []
        assert len(history.attempts(runs[-1].run_id, "part")) == 1
