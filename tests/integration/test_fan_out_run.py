"""`matrix` and `foreach` in runs, and how commands show their instances."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flow_folder import write

ROOT = Path(__file__).resolve().parents[2]
Lightflow = Callable[..., "subprocess.CompletedProcess[str]"]

FUNCTIONS = """\
class Thing:
    pass

def things():
    return [1, Thing()]

def double(x):
    return x * 2

def picky(x):
    from liteflow import SkipTask
    if x == 2:
        raise SkipTask("not this one")
    if x == 3:
        raise ValueError("three")
    return x
"""


def environment(**extra: str) -> dict[str, str]:
    base = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTFLOW_")}
    return {**base, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **extra}


@pytest.fixture
def lightflow(tmp_path: Path) -> Lightflow:
    """The command, in an empty folder."""
    (tmp_path / "functions.py").write_text(FUNCTIONS, "utf-8")

    def call(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "lightflow", *arguments],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return call


def rows(folder: Path, sql: str) -> list[Any]:
    with sqlite3.connect(folder / "lightflow.db") as connection:
        return connection.execute(sql).fetchall()


def values(folder: Path, task: str) -> list[Any]:
    result = rows(
        folder, f"SELECT value FROM liteflow_xcom WHERE task_id='{task}' AND key='return_value' ORDER BY map_index"
    )
    return [json.loads(value) for (value,) in result]


EVERYTHING = """\
    workflow_name: everything
    params: {regions: [eu, us]}
    tasks:
      list:
        output: json
        run: echo '["one", "two words", {"name":"it'"'"'s"}, 4]'
      shell:
        foreach: ${{ tasks.list.result }}
        output: last_line
        run: printf '%s|%s|%s\\n' ${{ item }} "$LIGHTFLOW_MAP_INDEX" "${{ task.index }}"
      build:
        strategy:
          matrix:
            os: [linux, mac]
            region: ${{ params.regions }}
            exclude: [{os: mac, region: us}]
            include: [{os: linux, region: eu, extra: "yes"}]
        output: last_line
        env: {WHERE: "${{ matrix.os }}-${{ matrix.region }}"}
        run: echo "$WHERE" "${{ matrix.extra | default('no') }}"
      call:
        type: python
        foreach: {items: [1, 2, 3], as: number, key: "number ${{ number }}"}
        call: functions:double
        args: {x: "${{ number }}"}
      inline:
        type: python
        matrix: {a: [1, 2]}
        run: |
          from liteflow import current_context
          context = current_context()
          context.xcom_push("return_value", [context.map_index, context.item])
      pairs:
        with_items: {items: {x: 1, y: 2}}
        output: last_line
        run: echo ${{ item[0] }}=${{ item[1] }}
      again:
        type: python
        foreach: ${{ tasks.call.result }}
        call: functions:double
        args: ["${{ item }}"]
      nothing: {foreach: [], run: exit 1}
      sum:
        output: last_line
        run: echo '${{ tasks.again.result | sum }} ${{ tasks.shell.result | length }}'
"""


@pytest.mark.parametrize("mode", ["thread", "process", "async"])
def test_every_way_to_fan_out(lightflow: Lightflow, tmp_path: Path, mode: str) -> None:
    write(tmp_path, EVERYTHING)
    lightflow("run", "flow.yaml", "--mode", mode)
    assert values(tmp_path, "shell") == ["one|0|0", "two words|1|1", '{"name":"it\'s"}|2|2', "4|3|3"]
    assert values(tmp_path, "build") == ["linux-eu yes", "linux-us no", "mac-eu no"]
    assert values(tmp_path, "call") == [2, 4, 6]
    assert values(tmp_path, "inline") == [[0, {"a": 1}], [1, {"a": 2}]]
    assert values(tmp_path, "pairs") == ["x=1", "y=2"]
    assert values(tmp_path, "again") == [4, 8, 12]
    assert values(tmp_path, "sum") == ["24 4"]
    labels = rows(tmp_path, "SELECT map_key FROM liteflow_task_instances WHERE task_id='call' AND map_index >= 0")
    assert [entry for (entry,) in labels] == ["number 1", "number 2", "number 3"]
    assert rows(tmp_path, "SELECT status FROM liteflow_task_instances WHERE task_id='nothing'") == [("SKIPPED",)]


def test_instances_of_inline_code_end_at_the_same_time_in_threads(lightflow: Lightflow, tmp_path: Path) -> None:
    """They share the source lines that tracebacks show: none takes them away from another one."""
    (tmp_path / "meeting.py").write_text("import threading\nboth = threading.Barrier(2, timeout=60)\n", "utf-8")
    flow = """\
        workflow_name: meet
        tasks:
          meet:
            foreach: [1, 2]
            type: python
            run: |
              import sys
              sys.path.insert(0, ".")
              import meeting
              meeting.both.wait()
        """
    write(tmp_path, textwrap.dedent(flow))
    lightflow("run", "flow.yaml", "--mode", "thread")
    assert rows(tmp_path, "SELECT status FROM liteflow_task_instances") == [("SUCCESS",)] * 3


def test_a_task_that_is_not_mapped_has_no_index(lightflow: Lightflow, tmp_path: Path) -> None:
    write(tmp_path, "tasks:\n  a: {run: 'echo \"index=${LIGHTFLOW_MAP_INDEX-none}\"'}\n")
    lightflow("run", "flow.yaml")
    assert "index=none" in lightflow("logs", "a").stdout


def test_a_list_that_is_none_fails_the_task_alone(lightflow: Lightflow, tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        tasks:
          text: {run: echo words, output: last_line}
          over_text:
            foreach: ${{ tasks.text.result }}
            run: echo ${{ item }}
          objects: {type: python, call: "functions:things"}
          over_objects:
            foreach: ${{ tasks.objects.result }}
            run: echo ${{ item }}
          below: {run: echo, depends_on: over_text}
        """,
    )
    done = lightflow("run", "flow.yaml", code=1)
    assert "flow.yaml:4:14: tasks.over_text.foreach: the value is text and no list" in done.stdout
    assert "flow.yaml:8:14: tasks.over_objects.foreach: task 'objects': the value is a Python object" in done.stdout
    assert "below is UPSTREAM_FAILED" in lightflow("why", "below").stdout


def test_a_wrong_list_that_is_known_before_the_run_stops_it(lightflow: Lightflow, tmp_path: Path) -> None:
    write(tmp_path, "params: {n: 3}\ntasks:\n  a: {matrix: {n: '${{ params.n }}'}, run: echo}\n")
    for arguments in (("run", "flow.yaml"), ("run", "flow.yaml", "--dry-run")):
        assert "flow.yaml:3:20: tasks.a.matrix.n: the value is a number" in lightflow(*arguments, code=2).stderr
    assert not (tmp_path / "lightflow.db").exists()


def test_fail_fast_ends_the_others(lightflow: Lightflow, tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        tasks:
          each:
            foreach: {items: "${{ range(20) | list }}", fail_fast: true}
            run: test ${{ item }} -ne 0 && sleep 600
        """,
    )
    lightflow("run", "flow.yaml", "-j", "2", code=1)
    states = Counter(
        entry for (entry,) in rows(tmp_path, "SELECT status FROM liteflow_task_instances WHERE map_index>=0")
    )
    assert states == {"FAILED": 1, "CANCELLED": 19}


# -- what commands show --------------------------------------------------------------------------------------------

SHOWN = """\
    workflow_name: shown
    tasks:
      list: {output: json, run: 'echo [1,2,3,4]'}
      each:
        type: python
        foreach: ${{ tasks.list.result }}
        call: functions:picky
        args: ["${{ item }}"]
      few: {matrix: {os: [linux, mac], max_parallel: 1}, run: "echo on ${{ matrix.os }}"}
      many: {foreach: "${{ range(120) | list }}", run: "test ${{ item }} -ne 7 || { echo seven; exit 3; }"}
      below: {run: echo, depends_on: [each]}
      reduce: {run: "echo ${{ tasks.each.result | json }}", trigger_rule: all_done}
"""


@pytest.fixture
def shown(lightflow: Lightflow, tmp_path: Path) -> Lightflow:
    write(tmp_path, SHOWN)
    lightflow("run", "flow.yaml", code=1)
    return lightflow


def test_lines_of_a_run(lightflow: Lightflow, tmp_path: Path) -> None:
    write(tmp_path, SHOWN)
    output = lightflow("run", "flow.yaml", code=1).stdout
    lines = [line.split(maxsplit=1)[-1] for line in output.splitlines() if line[2:3] == ":"]
    assert "few has 2 instances" in lines
    assert [line.rpartition(" ")[0].rpartition(" ")[0] for line in lines if line.startswith("few[")] == [
        "few[0] linux SUCCESS",
        "few[1] mac SUCCESS",
    ]
    # of many, those that succeed have no line; a tenth of them has one
    assert [line.split()[0] for line in lines if line.startswith("many[")] == ["many[7]"]
    assert sum("/120 done" in line for line in lines) == 9
    assert "each FAILED - 1 of 4 instances failed" in lines
    assert "✗ each[2] 3 failed: ValueError: three" in output
    assert "✗ many[7] 7 failed: exit code 3" in output
    assert "3 succeeded, 2 failed, 1 upstream failed (126 instances, 2 failed, 1 skipped)" in output


def test_status(shown: Lightflow) -> None:
    message = shown("status").stdout
    names = [line.split()[0] for line in message.partition("TASK")[2].splitlines()[1:]]
    assert names == [
        "list",
        "each",
        *(f"each[{index}]" for index in range(4)),
        "few",
        "few[0]",
        "few[1]",
        "many",
        "many[7]",
        "below",
        "reduce",
    ]
    assert "4 instances, 1 failed, 1 skipped" in message
    assert "120 instances, 1 failed" in message
    assert "few[0] linux  " in message
    assert shown("status", "--task", "many").stdout.count("many[") == 120
    assert "126 instances" in shown("runs").stdout


def test_status_as_json(shown: Lightflow) -> None:
    result = json.loads(shown("status", "--json").stdout)
    assert result["counts"] == {"SUCCESS": 3, "FAILED": 2, "UPSTREAM_FAILED": 1}
    assert result["instances"] == {"SUCCESS": 123, "FAILED": 2, "SKIPPED": 1}
    assert [task["task"] for task in result["tasks"]] == ["list", "each", "few", "many", "below", "reduce"]
    each = result["tasks"][1]
    assert each["map_index"] is None
    assert each["reason"] == "1 of 4 instances failed"
    assert each["duration_s"] is not None
    assert [
        (entry["map_index"], entry["map_key"], entry["status"], len(entry["attempts"])) for entry in each["instances"]
    ] == [
        (0, "1", "SUCCESS", 1), (1, "2", "SKIPPED", 1), (2, "3", "FAILED", 1), (3, "4", "SUCCESS", 1),
    ]  # fmt: skip
    assert result["tasks"][0]["instances"] is None
    assert json.loads(shown("runs", "--json").stdout)[0]["instances"] == result["instances"]


def test_why(shown: Lightflow) -> None:
    assert shown("why", "each").stdout.splitlines()[0] == "✗ each is FAILED: 4 instances, 1 failed, 1 skipped: each[2]"
    assert "→ each[2] is FAILED: attempt 1, its last, ended as FAILED: ValueError: three" in shown("why", "each").stdout
    assert "each[2] is FAILED" in shown("why", "each[2]").stdout
    assert "it skipped itself: not this one" in shown("why", "each[1]").stdout
    below = shown("why", "below").stdout.splitlines()
    assert "'each[2]' did not succeed" in below[0]
    assert [line.split()[1] for line in below if "→" in line] == ["each", "each[2]"]
    assert "each[3] is SUCCESS" in shown("why", "each[4]").stdout  # 4 is its label
    assert "4 instances: each[0] to each[3]" in shown("why", "each[7]", code=3).stderr
    assert "no run has a task 'eech'; did you mean 'each'?" in shown("why", "eech[1]", code=3).stderr


def test_logs(shown: Lightflow) -> None:
    assert shown("logs", "few[1]").stdout == "on mac\n"
    both = shown("logs", "few")
    assert both.stdout == "on linux\non mac\n"
    assert "==> few[0], attempt 1: SUCCESS" in both.stderr
    assert shown("logs", "many").stdout == "seven\n"  # of many those that failed
    attempts = json.loads(shown("logs", "few", "--json").stdout)["attempts"]
    assert [entry["map_index"] for entry in attempts] == [0, 1]


def test_outputs(shown: Lightflow) -> None:
    assert json.loads(shown("outputs", "each", "--key", "return_value").stdout) == [1, 4]
    assert shown("outputs", "each[3]", "--key", "return_value").stdout == "4\n"
    result = json.loads(shown("outputs", "each", "--json").stdout)["outputs"]
    assert [(entry["map_index"], entry["value"]) for entry in result] == [(0, 1), (3, 4)]
    assert "each[3]" in shown("outputs").stdout
    assert shown("logs", "reduce").stdout == "[1, 4]\n"


def test_a_dry_run_lists_what_is_known(shown: Lightflow) -> None:
    message = shown("run", "flow.yaml", "--dry-run").stdout
    assert "×2, each os" in message
    assert [line.split() for line in message.splitlines() if "few[1]" in line] == [
        ["few[1]", "mac", "echo", "on", "mac"]
    ]
    assert "each of ${{ tasks.list.result }}" in message
    assert "… and 110 more" in message
    levels = json.loads(shown("run", "flow.yaml", "--dry-run", "--json").stdout)["levels"]
    tasks = {task["task"]: task for level in levels for task in level}
    assert tasks["few"]["instances"][0] == {"map_index": 0, "map_key": "linux", "summary": "echo on linux"}
    assert tasks["each"]["instances"] is None
    assert tasks["each"]["mapped"] == "each of ${{ tasks.list.result }}"
    assert tasks["list"]["mapped"] is None


def test_pictures(shown: Lightflow) -> None:
    plan = shown("dag", "flow.yaml", "--format", "mmd").stdout
    assert "few ×2" in plan
    assert "each ×n" in plan
    run = shown("dag", "--run", "latest", "--format", "mmd").stdout
    assert "each ×4" in run
    assert "many ×120" in run
    assert run.count("each ×") == 1  # a box, however many instances
    shown("dag", "--run", "latest", "-o", "run.html")


def test_the_checkpoint_has_tasks_and_instances(shown: Lightflow, tmp_path: Path) -> None:
    (path,) = (tmp_path / ".lightflow-checkpoints").iterdir()
    result = json.loads(path.read_text())
    assert result["total_tasks"] == 6
    completed = result["completed_tasks"]
    assert {name for name in completed if "[" not in name} == {"list", "each", "few", "many", "reduce"}
    assert completed["few[1]"]["output"] == "on mac"
    assert not completed["each"]["success"]
    assert json.loads(shown("list-checkpoints", "--json").stdout)[0]["completed"] == 3
    # a run that begins from it keeps tasks that succeeded as a whole, and maps the others again
    (tmp_path / "lightflow.db").rename(tmp_path / "old.db")
    shown("resume", "flow.yaml", "--from-checkpoint", str(path), code=1)
    again = Counter(task for (task,) in rows(tmp_path, "SELECT task_id FROM liteflow_attempts WHERE map_index >= 0"))
    assert again == {"many": 120}  # `each` has no list any more: a checkpoint has no values
    assert "task 'list' has no result" in shown("why", "each").stdout


# -- after a crash ---------------------------------------------------------------------------------------------------


def test_what_succeeded_before_a_kill_is_not_run_again(lightflow: Lightflow, tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        workflow_name: killed
        tasks:
          each:
            foreach: {items: "${{ range(40) | list }}", key: "item ${{ item }}"}
            output: last_line
            run: |
              echo ${{ item }} >> began
              test ${{ item }} -lt 20 || test -e go || sleep 600
              echo ${{ item }}
          sum: {run: "echo ${{ tasks.each.result | length }}", output: last_line}
        """,
    )
    command = [sys.executable, "-m", "lightflow", "run", "flow.yaml", "-j", "4"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL) as process:
        began = tmp_path / "began"
        while not began.exists() or len(began.read_text().split()) < 24:  # 20 have ended, and 4 run
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert "23" in began.read_text().split()
    done = {index for (index,) in rows(tmp_path, "SELECT map_index FROM liteflow_attempts WHERE status='SUCCESS'")}
    assert done == set(range(20))
    output = lightflow("status").stdout
    assert "20/40 done, 4 running" in output
    assert "20/40 done, 4 running" in lightflow("why", "each").stdout
    assert "attempt 1 is running, or was when its owner died" in lightflow("why", "each[20]").stdout
    (tmp_path / "go").touch()
    lightflow("resume", "flow.yaml")
    tries = Counter(began.read_text().split())
    assert tries == {str(index): 2 if 20 <= index < 24 else 1 for index in range(40)}
    assert values(tmp_path, "sum") == ["40"]
    lost = rows(tmp_path, "SELECT map_index FROM liteflow_attempts WHERE status='LOST' ORDER BY 1")
    assert [index for (index,) in lost] == [20, 21, 22, 23]


@pytest.mark.parametrize("over", ["foreach: {items: [1, 2, 3, 4, 5, 6]", "matrix: {n: [1, 2, 3, 4, 5, 6]"])
def test_no_more_instances_run_at_once_than_allowed(lightflow: Lightflow, tmp_path: Path, over: str) -> None:
    write(
        tmp_path,
        f"""\
        tasks:
          each:
            {over}, max_parallel: 2}}
            run: |
              mkdir running."$LIGHTFLOW_MAP_INDEX"
              set -- running.*
              echo "$#" >> seen
              sleep 0.2
              rmdir running."$LIGHTFLOW_MAP_INDEX"
        """,
    )
    lightflow("run", "flow.yaml", "-j", "6")
    seen = [int(entry) for entry in (tmp_path / "seen").read_text().split()]
    assert len(seen) == 6
    assert max(seen) == 2
