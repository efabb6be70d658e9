"""Tasks of the types `wait` and `approval`, by the commands that people type."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flow_folder import COMMAND, environment, lightflow, problems, status, write

LIMIT_S = 120.0


class Running:
    """A run in a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [*COMMAND, *(arguments or ("run", "flow.yaml"))],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def until(self, sql: str, result: Any) -> None:
        """Wait until a query of the state file has this result."""
        give_up, got = time.monotonic() + LIMIT_S, None
        while time.monotonic() < give_up:
            got = self.query(sql)
            if got == result:
                return
            time.sleep(0.02)
        raise AssertionError(f"{sql}: {got}, and not {result}")

    def query(self, sql: str) -> Any:
        try:
            with sqlite3.connect(f"file:{self.folder}/lightflow.db?mode=ro", uri=True) as connection:
                return connection.execute(sql).fetchall()
        except sqlite3.OperationalError:
            return None

    def waits(self, *names: str) -> None:
        """Wait until these tasks have begun to wait."""
        sql = "SELECT DISTINCT task_id FROM liteflow_events WHERE status='WAITING' ORDER BY 1"
        self.until(sql, [(name,) for name in sorted(names)])

    def ends(self) -> int:
        return self.process.wait(LIMIT_S)

    def kill(self) -> None:
        """Kill the process of the run, and wait until its guardian is gone, too."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        give_up = time.monotonic() + LIMIT_S
        while status(self.folder)["status"] == "RUNNING" and time.monotonic() < give_up:
            time.sleep(0.05)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Any]:
    started: list[Running] = []

    def start(text: str, *arguments: str) -> Running:
        if text:
            write(tmp_path, text)
        started.append(Running(tmp_path, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


def outputs(folder: Path) -> dict[str, Any]:
    shape = json.loads(lightflow(folder, "outputs", "--json").stdout)
    return {f"{each['task']}.{each['key']}": each["value"] for each in shape["outputs"]}


def test_it_waits_for_files_commands_and_times(tmp_path: Path, running: Any) -> None:
    run = running(
        """
        tasks:
          file: {type: wait, file: "in/*.csv", stable: 0.2s, every: 0.1}
          command: {type: wait, command: 'test -e ${{ params.name }}', every: 0.1}
          pause: {type: wait, duration: 1s}
          until: {type: wait, until: "2020-01-01T06:30", timezone: Europe/Berlin}
        params: {name: in/a.csv}
        """
    )
    run.waits("command", "file", "pause")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("abc", encoding="utf-8")
    assert run.ends() == 0
    values = outputs(tmp_path)
    assert (values["file.path"], values["file.size"], values["file.paths"]) == ("in/a.csv", 3, ["in/a.csv"])
    assert values["command.exit_code"] == 0
    assert 0.9 < values["pause.waited_s"] < LIMIT_S
    assert values["until.waited_s"] < values["pause.waited_s"]


def test_a_wait_for_time_goes_on_after_a_kill(tmp_path: Path, running: Any) -> None:
    run = running("tasks: {pause: {type: wait, duration: 2s}}")
    run.waits("pause")
    (due,) = run.query("SELECT json_extract(handle, '$.due') FROM liteflow_task_instances")
    run.kill()
    assert lightflow(tmp_path, "resume", "flow.yaml").returncode == 0
    (ended,) = run.query("SELECT ended_at FROM liteflow_attempts")
    assert due[0] <= ended[0]
    assert run.query("SELECT attempt, status FROM liteflow_attempts") == [(1, "SUCCESS")]


def test_a_command_that_fails_fails_the_wait_and_a_timeout_skips(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        tasks:
          failing: {type: wait, command: exit 3, every: 0.1}
          late: {type: wait, file: never, every: 0.1, timeout: 2s, on_timeout: skip}
          slow: {type: wait, command: sleep 600, timeout: 2s, on_timeout: skip}
        """,
    )
    assert lightflow(tmp_path, "run", "flow.yaml").returncode == 1
    tasks = {each["task"]: each for each in status(tmp_path)["tasks"]}
    assert (tasks["failing"]["status"], tasks["late"]["status"]) == ("FAILED", "SKIPPED")
    assert (tasks["slow"]["status"], tasks["slow"]["reason"]) == ("SKIPPED", "timed out after 2 s"), "in its first look"
    assert tasks["failing"]["reason"].startswith("exit code 3")
    assert tasks["late"]["reason"] == "timed out after 2 s; it waited for: file never"


def test_it_waits_for_another_run(tmp_path: Path, running: Any) -> None:
    write(tmp_path, "tasks: {a: {run: 'true'}}", "load.yaml")
    run = running(
        "tasks: {ready: {type: wait, every: 0.1, run: {workflow: load, date: '${{ run.logical_date }}'}}}",
        "run",
        "flow.yaml",
        "--date",
        "2026-01-02",
    )
    run.waits("ready")
    lightflow(tmp_path, "run", "load.yaml", "--date", "2026-01-01")
    assert lightflow(tmp_path, "run", "load.yaml", "--date", "2026-01-02").returncode == 0
    assert run.ends() == 0


APPROVAL = """
params: {version: "1.2"}
tasks:
  ok:
    type: approval
    message: Deploy ${{ params.version }}?
    fields: {reason: {type: string}, count: 3}
    timeout: 60s
  deploy: {depends_on: [ok], run: "echo ${{ tasks.ok.outputs.reason }} ${{ tasks.ok.outputs.count }}"}
"""


def test_an_approval_has_typed_fields_and_the_first_decision_counts(tmp_path: Path, running: Any) -> None:
    run = running(APPROVAL)
    run.waits("ok")
    why = lightflow(tmp_path, "why", "ok").stdout
    assert "approval: Deploy 1.2?" in why
    zone = time.strftime("%Z")  # a page shows the sentence beside times of another zone
    at = rf"[-\d]+ [:\d]+ {zone}"
    assert re.search(rf"attempt 1 waits since {at}: .*; it times out at {at}; decide", why)
    missing = lightflow(tmp_path, "approve", "latest", "ok")
    assert (missing.returncode, "needs the field reason: text" in missing.stderr) == (2, True)
    wrong = lightflow(tmp_path, "approve", "latest", "ok", "--field", "reason=x", "--field", "count=many")
    assert (wrong.returncode, "must be a whole number" in wrong.stderr) == (2, True)
    twice = lightflow(tmp_path, "approve", "latest", "ok", "--field", "reason=x", "--field", "reason=y")
    assert (twice.returncode, "--field reason: is given twice" in twice.stderr) == (2, True)
    unknown = lightflow(tmp_path, "approve", "latest", "ok", "--field", "reasn=x")
    assert (unknown.returncode, "did you mean 'reason'" in unknown.stderr) == (2, True)
    done = lightflow(tmp_path, "approve", "latest", "ok", "--field", "reason=go", "--by", "ann", "--comment", "yes")
    assert done.returncode == 0, done.stderr
    assert run.ends() == 0
    second = lightflow(tmp_path, "reject", "latest", "ok")
    assert second.returncode == 4
    assert "was decided by ann at " in second.stderr
    values = outputs(tmp_path)
    assert [values[f"ok.{name}"] for name in ("decision", "by", "comment", "reason", "count")] == [
        "approved",
        "ann",
        "yes",
        "go",
        3,
    ]


def test_two_decisions_at_the_same_time_are_one(tmp_path: Path, running: Any) -> None:
    run = running("tasks: {ok: {type: approval, message: Go?}}")
    run.waits("ok")
    command = [*COMMAND, "approve", "latest", "ok", "--by"]
    deciders = [
        subprocess.Popen([*command, f"person{number}"], cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL)
        for number in range(3)
    ]
    codes = sorted(decider.wait(LIMIT_S) for decider in deciders)
    assert codes == [0, 4, 4]
    assert run.ends() == 0
    assert run.query("SELECT count(*) FROM liteflow_requests WHERE action='answer'") == [(1,)]


def test_a_rejection_fails_the_task(tmp_path: Path, running: Any) -> None:
    run = running("tasks: {ok: {type: approval, message: Go?, retries: 3}, next: {depends_on: [ok], run: 'true'}}")
    run.waits("ok")
    assert lightflow(tmp_path, "reject", "latest", "ok", "--by", "ann", "--comment", "not on Friday").returncode == 0
    assert run.ends() == 1
    tasks = {each["task"]: each for each in status(tmp_path)["tasks"]}
    assert tasks["ok"]["reason"].startswith("rejected by ann: not on Friday")
    assert tasks["next"]["status"] == "UPSTREAM_FAILED"
    assert run.query("SELECT codes FROM liteflow_attempts") == [('["approval:rejected"]',)]


def test_no_decision_in_time_is_never_an_approval(tmp_path: Path) -> None:
    write(tmp_path, "tasks: {ok: {type: approval, message: Go?, timeout: 0.3s}}")
    assert lightflow(tmp_path, "run", "flow.yaml").returncode == 1
    late = lightflow(tmp_path, "approve", "latest", "ok")
    assert late.returncode == 3
    assert "waits for no decision: it is FAILED" in late.stderr


def test_a_decision_without_an_owner_waits_for_the_resume(tmp_path: Path, running: Any) -> None:
    """The time of the task is over when the run is resumed; the decision was made before."""
    run = running("tasks: {ok: {type: approval, message: Go?, timeout: 6s}}")
    run.waits("ok")
    run.kill()
    done = lightflow(tmp_path, "approve", "latest", "ok", "--by", "ann")
    assert (done.returncode, "the next process that resumes the run" in done.stdout) == (0, True)
    assert lightflow(tmp_path, "approve", "latest", "ok", "--by", "bob").returncode == 4
    (started,) = run.query("SELECT started_at FROM liteflow_task_instances")
    time.sleep(max(0.0, started[0] + 6.2 - time.time()))
    assert lightflow(tmp_path, "resume", "flow.yaml").returncode == 0
    assert outputs(tmp_path)["ok.by"] == "ann"


def test_all_instances_of_a_mapped_approval(tmp_path: Path, running: Any) -> None:
    run = running(
        """
        tasks:
          ok:
            type: approval
            message: "Load ${{ item }}?"
            foreach: {items: [eu-a, us, eu-b, asia], key: "${{ item }}", fail_fast: false}
        """
    )
    sql = "SELECT count(*) FROM liteflow_task_instances WHERE status='WAITING'"
    run.until(sql, [(4,)])
    assert lightflow(tmp_path, "reject", "latest", "ok[1]", "--all").stdout.startswith("ok[1] us of run ")
    assert lightflow(tmp_path, "approve", "latest", "ok[nowhere]", "--all").returncode == 2
    decided = lightflow(tmp_path, "approve", "latest", "ok[eu-*]", "--all").stdout
    assert [line.split(" of ")[0] for line in decided.splitlines()] == ["ok[0] eu-a", "ok[2] eu-b"]
    assert lightflow(tmp_path, "approve", "latest", "ok", "--all").stdout.startswith("ok[3] asia of run ")
    assert run.ends() == 1
    instances = status(tmp_path)["tasks"][0]["instances"]
    assert [each["status"] for each in instances] == ["SUCCESS", "FAILED", "SUCCESS", "SUCCESS"]


def test_python_defines_and_decides_the_same(tmp_path: Path) -> None:
    program = """
        import threading, time
        from liteflow import Dag, DagRun, AlreadyDecided
        dag = Dag("d", "lightflow.db")
        ok = dag.approval("Go?", "ok", fields={"count": 3})
        dag.task(lambda answer: print(answer["by"], answer["count"]), "after", answer=ok)

        def decide():
            while True:
                try:
                    DagRun.load("lightflow.db", "r").approve("ok", by="ann", count=5)
                    return
                except Exception:
                    time.sleep(0.05)

        threading.Thread(target=decide, daemon=True).start()
        run = dag.run(run_id="r")
        print(run.status)
    """
    write(tmp_path, program, "flow.py")
    done = subprocess.run(
        [sys.executable, "flow.py"], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=LIMIT_S,
        check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["ann", "5", "SUCCESS"], done.stderr


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("{type: wait}", "needs exactly one of file, http, sql, command, until, duration and run"),
        (
            "{type: wait, file: a, duration: 1s}",
            "needs exactly one of file, http, sql, command, until, duration and run",
        ),
        ("{type: wait, until: soon}", "must be a time of day such as 06:30"),
        ("{type: wait, until: '06:30', timezone: Berlin}", "there is no time zone 'Berlin'"),
        ("{type: wait, duration: 1x}", "must be a time"),
        ("{type: wait, run: {date: today}}", 'needs "workflow" or "id"'),
        ("{type: approval}", "message"),
        ("{type: approval, message: a, fields: {by: {type: string}}}", "by is a value of every approval"),
        ("{type: approval, message: a, fields: {n: {type: whole}}}", 'fields.n.type: "whole" is not allowed'),
        ("{run: a, on_failure: {type: approval, message: a}}", "a hook cannot"),
    ],
)
def test_mistakes_are_found_before_a_run(task: str, message: str) -> None:
    found = problems(f"tasks:\n  a: {task}\n")
    assert message in found
    assert found.startswith("w.yaml:2:")


def test_a_file_in_a_folder_that_comes_and_goes(tmp_path: Path, running: Any) -> None:
    run = running("tasks: {a: {type: wait, file: 'in/x', stable: 0.3s, every: 0.05}}")
    run.waits("a")
    for size in (1, 2, 3):
        os.makedirs(tmp_path / "in", exist_ok=True)
        (tmp_path / "in" / "x").write_text("x" * size, encoding="utf-8")
    assert run.ends() == 0
    assert outputs(tmp_path)["a.size"] == 3


def test_a_run_parks_and_a_resume_takes_the_decision(tmp_path: Path) -> None:
    write(tmp_path, "tasks: {ok: {type: approval, message: Go?, timeout: 1h}, next: {depends_on: [ok], run: 'true'}}")
    parked = lightflow(tmp_path, "run", "flow.yaml", "--park")
    assert parked.returncode == 0, parked.stderr
    run_id = status(tmp_path)["run_id"]
    approve = f"lightflow approve {run_id} ok"  # the next thing to do: each output that shows the run says it
    for shown in (parked.stderr + parked.stdout, lightflow(tmp_path, "status").stdout):
        assert [line.split("  ", 2)[-1].strip() for line in shown.splitlines() if "approve" in line.split()[:1]] == [
            approve
        ]
    assert approve in lightflow(tmp_path, "why", "ok").stdout
    shape = status(tmp_path)
    assert (shape["status"], shape["tasks"][0]["status"]) == ("INTERRUPTED", "WAITING")
    assert shape["reason"].startswith("parked: it waits until ")
    assert "waits since" in lightflow(tmp_path, "why", "ok").stdout
    assert lightflow(tmp_path, "approve", "latest", "ok").returncode == 0
    assert lightflow(tmp_path, "resume", "latest", "--park").returncode == 0
    assert status(tmp_path)["status"] == "SUCCESS"


REPEAT = """
params: {goal: 3}
tasks:
  count:
    run: |
      echo "n=${{ iteration }} before=${{ previous.outputs.n | default('none') }}" >> seen.txt
      echo "n=${{ iteration }}" >> "$LIGHTFLOW_OUTPUT"
    repeat: {until: "outputs.n | int >= params.goal", every: EVERY, max: 5}
  after: {depends_on: [count], run: "echo ${{ tasks.count.outputs.n }}"}
"""


def test_a_task_is_repeated(tmp_path: Path) -> None:
    write(tmp_path, REPEAT.replace("EVERY", "0.05s"))
    assert lightflow(tmp_path, "run", "flow.yaml").returncode == 0
    assert (tmp_path / "seen.txt").read_text(encoding="utf-8").splitlines() == [
        "n=1 before=none",
        "n=2 before=1",
        "n=3 before=2",
    ]
    assert [each["status"] for each in status(tmp_path)["tasks"][0]["attempts"]] == ["REPEATED", "REPEATED", "SUCCESS"]
    assert outputs(tmp_path)["count.n"] == "3"


def test_iterations_are_counted_on_after_a_kill(tmp_path: Path, running: Any) -> None:
    run = running(REPEAT.replace("EVERY", "2s"))
    run.until("SELECT count(*) FROM liteflow_attempts WHERE status='REPEATED'", [(1,)])
    run.waits("count")
    (wake_at,) = run.query("SELECT wake_at FROM liteflow_task_instances WHERE task_id='count'")
    run.kill()
    assert lightflow(tmp_path, "resume", "flow.yaml").returncode == 0
    seen = (tmp_path / "seen.txt").read_text(encoding="utf-8").splitlines()
    assert seen == ["n=1 before=none", "n=2 before=1", "n=3 before=2"]
    (second,) = run.query("SELECT started_at FROM liteflow_attempts WHERE task_id='count' AND attempt=2")
    assert second[0] >= wake_at[0]


def test_each_instance_of_a_mapped_task_is_repeated(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        tasks:
          count:
            foreach: [a, b]
            run: echo "${{ item }} ${{ iteration }}" >> "seen_${{ item }}.txt"
            repeat: {while: iteration < 2, max: 5}
          broken:
            run: "true"
            retries: 3
            repeat: {until: outputs.absent, max: 5}
        """,
    )
    assert lightflow(tmp_path, "run", "flow.yaml").returncode == 1
    for name in "ab":
        assert (tmp_path / f"seen_{name}.txt").read_text(encoding="utf-8") == f"{name} 1\n{name} 2\n"
    broken = status(tmp_path)["tasks"][1]
    assert broken["reason"].startswith("flow.yaml:")
    assert "there is no output 'absent'" in broken["reason"]
    assert len(broken["attempts"]) == 1, "an error in the condition is not tried again"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("repeat: {until: outputs.x}", '"max" or "timeout"'),
        ("repeat: {max: 3}", 'either "until" or "while"'),
        ("repeat: {until: a, while: b, max: 3}", 'either "until" or "while"'),
        ("repeat: {until: output.x, max: 3}", "there is no name 'output'"),
        ("repeat: {until: outputs.x, max: 3}, branch: true", "a task that decides cannot be repeated"),
        ("env: {N: '${{ iteration }}'}", "iteration is known in a task with `repeat` only"),
    ],
)
def test_mistakes_in_a_repetition_are_found_before_a_run(keys: str, message: str) -> None:
    found = problems(f"tasks:\n  a: {{run: 'true', {keys}}}\n")
    assert message in found
    assert found.startswith("w.yaml:2:")


def test_waits_in_groups_and_of_mapped_tasks_and_with_retries(tmp_path: Path) -> None:
    """A member of a group waits as any task; a wait that has failed is tried again, and waits anew."""
    write(
        tmp_path,
        """
        tasks:
          inputs:
            tasks:
              files:
                type: wait
                file: in/${{ item }}
                every: 0.1
                foreach: [a, b, c]
              flag:
                type: wait
                command: 'n=$(cat tries 2>/dev/null || echo 0); echo $((n + 1)) > tries; test $n -ge 1 || exit 3'
                retries: 1
                retry_delay: 0
          make: {run: "mkdir in; touch in/a in/b in/c"}
          load: {depends_on: [inputs], run: echo loaded}
        """,
    )
    assert lightflow(tmp_path, "run", "flow.yaml").returncode == 0
    with sqlite3.connect(tmp_path / "lightflow.db") as connection:
        sql = "SELECT task_id, map_index, status FROM liteflow_attempts ORDER BY task_id, map_index, attempt"
        rows = connection.execute(sql).fetchall()
    assert ("load", -1, "SUCCESS") in rows
    assert [row for row in rows if row[0] == "inputs.flag"] == [
        ("inputs.flag", -1, "FAILED"),
        ("inputs.flag", -1, "SUCCESS"),
    ]
    assert [row[1:] for row in rows if row[0] == "inputs.files" and row[1] >= 0] == [
        (index, "SUCCESS") for index in range(3)
    ]


def test_a_wait_may_hold_its_slots_also_after_a_kill(tmp_path: Path, running: Any) -> None:
    text = """
        pools: {jobs: 1}
        tasks:
          job: {type: wait, file: ready, every: 1, pool: jobs, pool_while_waiting: true, priority: 1}
          next: {run: echo next, pool: jobs}
        """

    def holders() -> list[str]:
        (pool,) = json.loads(lightflow(tmp_path, "pools", "--json").stdout)
        return [holder["task"] for holder in pool["holders"]]

    held = "SELECT task_id, taken_at IS NOT NULL FROM liteflow_slots ORDER BY 1"
    run = running(text)
    run.until(held, [("job", 1), ("next", 0)])
    assert holders() == ["job"]
    run.kill()
    assert holders() == []
    run = running("", "resume", "flow.yaml")
    run.until(held, [("job", 1), ("next", 0)])
    (tmp_path / "ready").touch()
    assert run.ends() == 0
    assert [task["status"] for task in status(tmp_path)["tasks"]] == ["SUCCESS", "SUCCESS"]
    assert holders() == []
