"""The summary of a run, during the run and afterwards: quiet runs, tolerated failures, hooks, the live view."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pexpect
import pytest

from lightflow.cli.summary import read_report
from lightflow.text import plain_text
from liteflow import Dag
from tests.integration.flow_folder import COMMAND, environment, lightflow, write

SPITE = """\
workflow_name: spite
tasks:
  extract: {run: exit 3}
  load: {run: echo, depends_on: [extract]}
  cleanup: {run: echo, depends_on: [load], trigger_rule: all_done}
  soft: {run: exit 4, continue_on_error: true}
  behind: {run: echo, depends_on: [soft]}
"""


def test_the_summary_reads_a_run_by_one_connection(tmp_path: Path) -> None:
    db = str(tmp_path / "state.db")
    dag = Dag("once", db)
    dag.task(os.getpid)
    run, opened, reads = dag.run(), list[str](), [False]

    def count(event: str, arguments: tuple[object, ...]) -> None:
        if event == "sqlite3.connect" and reads[0]:
            opened.append(str(arguments[0]))

    sys.addaudithook(count)
    reads[0] = True
    try:
        report = read_report(db, run.run_id, 0.0, "")
    finally:
        reads[0] = False
    assert (report.view.run.run_id, report.work_s > 0.0, len(opened)) == (run.run_id, True, 1)


def test_a_success_in_spite_of_failures_gives_the_reason(tmp_path: Path) -> None:
    write(tmp_path, SPITE)
    done = lightflow(tmp_path, "run", "flow.yaml")
    although = (
        "although extract failed: cleanup (all_done), which depends on it, did not fail; "
        "soft failed: continue_on_error allows it to fail"
    )
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    verdict = next(place for place, line in enumerate(lines) if line.startswith("✓ spite SUCCESS in "))
    assert lines[verdict + 1] == f"  {although}"
    assert f"  success   {although}" in lightflow(tmp_path, "status").stdout.splitlines()
    assert "the run is SUCCESS all the same: cleanup (all_done), which" in lightflow(tmp_path, "why", "extract").stdout
    assert "the run is SUCCESS all the same: continue_on_error" in lightflow(tmp_path, "why", "soft").stdout
    reported = json.loads(lightflow(tmp_path, "status", "--json").stdout)["overlooked"]
    assert [entry["task"] for entry in reported] == ["extract", "soft"]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (
            "a: {run: exit 1}\n  b: {run: echo, depends_on: [a], trigger_rule: all_done}\n"
            "  c: {run: echo, depends_on: [a], trigger_rule: one_failed}",
            "although a failed: b (all_done), c (one_failed), which depend on it, did not fail",
        ),
        (
            "a: {run: exit 1}\n  b: {run: echo, depends_on: [a], trigger_rule: all_done}\n"
            "  c: {run: echo, depends_on: [b]}\n  down: {run: echo, teardown_of: up, depends_on: [a]}\n"
            "  up: {run: echo, setup: true}",
            "although a failed: b (all_done), which depends on it, did not fail",
        ),
        (
            "up: {run: echo, setup: true}\n  work: {run: echo, depends_on: [up]}\n"
            "  down: {run: exit 1, teardown_of: up, depends_on: [work]}",
            "although down failed: it is a teardown, which does not count",
        ),
        (
            "each: {run: exit 1, foreach: [1, 2], continue_on_error: true}\n  b: {run: echo, depends_on: [each]}",
            "although each failed: continue_on_error allows it to fail",
        ),
        ("a: {run: echo}", None),
        ("a: {run: exit 1}\n  b: {run: echo, trigger_rule: all_done}", None),
    ],
    ids=["several last ones", "beside a teardown", "teardown", "instances", "all well", "failed"],
)
def test_why_a_failure_does_not_count(tmp_path: Path, tasks: str, message: str | None) -> None:
    write(tmp_path, f"tasks:\n  {tasks}\n")
    lines = [line.strip() for line in lightflow(tmp_path, "run", "flow.yaml").stdout.splitlines()]
    assert [line for line in lines if line.startswith("although")] == ([message] if message else [])


def test_failures_that_the_run_tolerates_come_last(tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        tasks:
          part: {run: exit 4, foreach: [1, 2], continue_on_error: true}
          load: {run: exit 3, depends_on: [part]}
        """,
    )
    lines = lightflow(tmp_path, "run", "flow.yaml").stdout.splitlines()
    blocks = [line.split()[1] for line in lines if re.match(r"✗ .+ failed: ", line)]
    assert blocks == ["load", "part[0]", "part[1]"]
    assert "  output  lightflow logs load" in lines


def test_a_good_quiet_run_writes_nothing_to_stderr(tmp_path: Path) -> None:
    write(tmp_path, "tasks: {a: {run: test -e mended}, skipped: {run: echo, preconditions: [{run: exit 1}]}}")
    bad = lightflow(tmp_path, "run", "flow.yaml", "--quiet")
    assert bad.returncode == 1
    assert bad.stderr.startswith("✗ flow FAILED in ")  # for whoever throws standard output away
    assert "precondition" not in bad.stdout
    (tmp_path / "mended").touch()
    good = lightflow(tmp_path, "run", "flow.yaml", "--quiet")
    assert (good.returncode, good.stderr) == (0, "")
    assert len(good.stdout.splitlines()) == 1
    assert "the last run" not in lightflow(tmp_path, "run", "flow.yaml").stderr


def test_a_precondition_that_is_not_met_is_not_a_failure(tmp_path: Path) -> None:
    write(tmp_path, "tasks: {a: {run: echo, preconditions: [{run: exit 1}]}, b: {run: echo, on_success: exit 3}}")
    output = lightflow(tmp_path, "run", "flow.yaml").stdout
    assert "precondition_1 FAILED" not in output
    assert "a SKIPPED - its precondition does not hold: exit code 1" in output
    assert "warning: the hook b.on_success failed" in output


def test_hooks_of_all_instances_are_found_by_one_name(tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        tasks:
          mapped:
            foreach: [one, two]
            run: echo
            on_success: echo hooked ${{ item }}; test ${{ item }} = one
        """,
    )
    lightflow(tmp_path, "run", "flow.yaml")
    output = lightflow(tmp_path, "why", "mapped.on_success").stdout.splitlines()
    assert output[0] == "✗ mapped.on_success is FAILED: 2 instances, 1 failed"
    assert "mapped.on_success[0] is SUCCESS" in output[1]
    assert "mapped.on_success[1] is FAILED: attempt 1, its last, ended as FAILED: exit code 1" in output[2]
    assert lightflow(tmp_path, "logs", "mapped.on_success", "--attempt", "1").returncode == 0
    listed = lightflow(tmp_path, "status", "--task", "mapped.on_success").stdout
    assert [line.split()[0] for line in listed.partition("TASK")[2].splitlines()[1:]] == [
        "mapped.on_success[0]",
        "mapped.on_success[1]",
    ]
    wrong = lightflow(tmp_path, "why", "mapped.on_failure")
    assert wrong.returncode == 3
    assert "did you mean 'mapped.on_success'?" in wrong.stderr or "has mapped" in wrong.stderr


def test_what_tasks_log_under_debug_is_masked(tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        secrets: [TOKEN]
        tasks:
          a:
            type: python
            run: |
              import logging
              from liteflow import current_context
              logging.getLogger("x").warning("token %s", current_context().secrets["TOKEN"])
        """,
    )
    for mode in ("thread", "process", "async"):
        done = lightflow(tmp_path, "run", "flow.yaml", "--debug", "--mode", mode, extra_env={"TOKEN": "Sup3rS3cret"})
        assert "Sup3rS3cret" not in done.stdout + done.stderr
        assert "token ***" in done.stdout  # as what the task has printed


def test_the_end_of_a_run_on_a_terminal(tmp_path: Path) -> None:
    write(tmp_path, 'tasks: {a: {run: "true"}, long_name_of_a_task: {run: "true"}}')
    command = " ".join([*COMMAND, "run", "flow.yaml"])
    for columns in (25, 40, 100):
        shown = pexpect.run(
            command,
            cwd=str(tmp_path),
            env=environment({"TERM": "xterm", "COLUMNS": str(columns)}),
            encoding="utf-8",
        )
        text = plain_text(shown)
        assert "TASK" in text
        assert "lightflow logs" not in text
        if columns == 40:
            assert re.search(r"(?m)^long\S+ +✓ success +\d+ ms", text)
    assert "ATTEMPTS" in text


def test_a_retry_that_is_over_leaves_the_live_view(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    write(
        tmp_path,
        """\
        tasks:
          a: {run: 'test "$LIGHTFLOW_ATTEMPT" = 2', retry: {max: 1, delay: 1}}
          b: {run: read line < go}
        """,
    )
    child = pexpect.spawn(
        COMMAND[0],
        [*COMMAND[1:], "run", "flow.yaml"],
        cwd=str(tmp_path),
        env=environment({"TERM": "xterm-256color", "NO_COLOR": "1"}),
        dimensions=(24, 80),
        encoding="utf-8",
        timeout=60,
    )
    try:
        child.expect_exact("a will be tried again")
        child.expect_exact("1 done")
        child.expect_exact("▶ b")  # the frame that says so is drawn to its end
        child.expect_exact("1 done")
        assert "will be tried again" not in child.before
        (tmp_path / "go").write_text("go\n")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)


def test_a_picture_shows_how_many_instances_failed(tmp_path: Path) -> None:
    write(tmp_path, "tasks: {fetch: {run: 'test ${{ item }} != 2', foreach: [1, 2, 3]}, other: {run: exit 1}}")
    lightflow(tmp_path, "run", "flow.yaml")
    drawn = lightflow(tmp_path, "dag", "--run", "latest", "--format", "mmd").stdout
    assert "✗ 1 of 3 failed" in drawn
    assert drawn.count("✗ failed") == 1
