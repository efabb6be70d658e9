"""Control flow in workflow files: what they may say, what is wrong, and what happens, crashes included."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest
from flow_folder import COMMAND, environment, lightflow, status, write

from lightflow.errors import WorkflowError
from lightflow.parser.workflow_loader import loads_workflow


def states(folder: Path) -> dict[str, str]:
    view = status(folder)
    return {entry["task"]: entry["status"] for entry in (*view["tasks"], *view["hooks"])}


def run(folder: Path, text: str, *arguments: str) -> dict[str, str]:
    write(folder, text)
    lightflow(folder, "run", "flow.yaml", *arguments)
    return states(folder)


def why(folder: Path, task: str) -> str:
    return lightflow(folder, "why", task).stdout


# -- conditions --------------------------------------------------------------------------------------------------------


CONDITIONS = """\
    params: {full: false}
    env: {STAGE: production}
    tasks:
      count: {run: 'echo "{\\"rows\\": 3}" >> $LIGHTFLOW_OUTPUT'}
      bad: {run: exit 1}
      param: {if: params.full, run: echo}
      braces: {if: "${{ params.full == false }}", run: echo}
      constant: {if: false, run: echo}
      variable: {if: env.STAGE == "production" and env.MORE == "yes", env: {MORE: "yes"}, run: echo}
      value: {if: tasks.count.outputs.rows > 2, run: echo}
      missing: {if: tasks.count.outputs.cols > 2, run: echo, retries: 3}
      default: {if: "tasks.count.outputs.cols | default(0) > 2", run: echo}
      after_bad: {needs: bad, if: params.full == false, run: echo}
      failed: {needs: [bad, count], if: failure(), run: echo}
      indirect: {needs: after_bad, if: failure(), run: echo}
      all_well: {needs: [bad, count], if: success(), run: echo}
      state: {if: "tasks.bad.status == 'FAILED' and tasks.bad.status in ['failed', 'skipped']", run: echo}
      github: {when: tasks.bad.status == 'failure' and tasks.count.status != 'failure', run: echo}
      anyhow: {needs: bad, if: always(), run: echo}
      ruled: {needs: [bad, count], if: failure(), trigger_rule: all_success, run: echo}
    """


@pytest.fixture(scope="module")
def conditions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the tasks of CONDITIONS, and return the folder."""
    folder = tmp_path_factory.mktemp("conditions")
    run(folder, CONDITIONS)
    return folder


@pytest.mark.parametrize(
    ("task", "state"),
    [
        ("param", "SKIPPED"),
        ("braces", "SUCCESS"),
        ("constant", "SKIPPED"),
        ("variable", "SUCCESS"),
        ("value", "SUCCESS"),
        ("default", "SKIPPED"),
    ],
)
def test_a_condition_reads_params_variables_and_values(conditions: Path, task: str, state: str) -> None:
    assert states(conditions)[task] == state


@pytest.mark.parametrize("task", ["after_bad", "state", "github", "ruled"])
def test_without_a_status_function_the_trigger_rule_comes_first(conditions: Path, task: str) -> None:
    assert states(conditions)[task] == "UPSTREAM_FAILED"


@pytest.mark.parametrize(
    ("task", "state"),
    [("failed", "SUCCESS"), ("indirect", "SUCCESS"), ("anyhow", "SUCCESS"), ("all_well", "SKIPPED")],
)
def test_a_status_function_replaces_the_trigger_rule(conditions: Path, task: str, state: str) -> None:
    assert states(conditions)[task] == state


def test_a_condition_that_reads_a_missing_value_fails_its_task_without_an_attempt(conditions: Path) -> None:
    assert states(conditions)["missing"] == "FAILED"
    reason = why(conditions, "missing")
    assert "flow.yaml:11:17: tasks.missing.if: task 'count' has no output 'cols'" in reason
    attempts = {row["task"]: len(row["attempts"]) for row in status(conditions)["tasks"]}
    assert attempts["missing"] == attempts["param"] == 0


def test_why_quotes_a_condition_that_is_false(conditions: Path) -> None:
    assert "if: params.full is false" in why(conditions, "param")


def test_the_state_of_a_task_whose_failure_is_tolerated(tmp_path: Path) -> None:
    result = run(
        tmp_path,
        """\
        tasks:
          bad: {run: exit 1, continue_on_error: true}
          told: {if: tasks.bad.status == "failed" and success(), run: echo}
          sound: {if: tasks.bad.status == "success", run: echo}
        """,
    )
    assert result == {"bad": "FAILED", "told": "SUCCESS", "sound": "SKIPPED"}
    assert status(tmp_path)["status"] == "SUCCESS"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("if: params.fulll", "6:9: tasks.b.if: there is no parameter 'fulll', did you mean"),
        ("if: '${{ params.full }} == true'", "write the whole condition between ${{ and }}"),
        ("if: ${{ params.full", "the expression is not closed"),
        ("if: success", "success is a function: write success()"),
        ("if: sucess()", "there is no function 'sucess', did you mean"),
        ("if: success('a')", "success() takes no arguments"),
        ("if: tasks.c.status == 'x'", "there is no task 'c'"),
        ("if: tasks.b.status == 'x'", "cannot take a value of itself"),
        ("if: 3", "tasks.b.if: must be a condition such as params.full, or true or false, not 3"),
        ("if: params.full +", "not an expression"),
        ("env: {X: '${{ success() }}'}", "success() is only known in `if`"),
        ("env: {X: '${{ tasks.a.status }}'}", "tasks.a.status is only known in `if`"),
        ("branch: true\n    short_circuit: true", "exclude each other"),
        ("branch: yes", "tasks.b.branch: must be true or false"),
        ("short_circuit: sometimes", "must be true, false or direct"),
        ("teardown_of: aa", 'no task "aa", did you mean "a"'),
        ("teardown_of: b", "the task tears itself down"),
        ("teardown_of: a\n    trigger_rule: all_done", '"trigger_rule" has no meaning in a task with "teardown_of"'),
        ("on_failure_fail_run: true", 'is for tasks with "teardown_of"'),
        ("continue_on_error: {exit_code: [1]}", 'unknown key "exit_code", did you mean "exit_codes"'),
        ("allow_failure: sometimes", "tasks.b.continue_on_error: must be true, false, or a mapping"),
        ("on_failure: {rum: x}", 'unknown key "rum", did you mean "run"'),
        ("on_failure: {run: x, depends_on: a}", 'unknown key "depends_on"'),
        ("on_failure: {type: python, run: 'x ='}", "not valid Python"),
        ("on_failure: {type: nope, run: x}", 'no task type "nope"'),
        ("on_failure: 'echo ${{ params.fulll }}'", "there is no parameter 'fulll'"),
        ("on_failure: {run: x, timeout: 0s}", "must be more than 0"),
        ("on_failures: x", 'unknown key "on_failures", did you mean "on_failure"'),
        ("preconditions: [{run: x, if: y}]", 'needs either "run" (a command) or "if" (a condition)'),
        ("preconditions: [{if: params.x}]", "there is no parameter 'x'"),
        ("preconditions: [{run: x, on_fail: stop}]", "must be one of skip, fail"),
    ],
)
def test_mistakes(keys: str, message: str) -> None:
    text = f"params: {{full: true}}\ntasks:\n  a: {{run: echo}}\n  b:\n    run: echo\n    {keys}\n"
    with pytest.raises(WorkflowError) as caught:
        loads_workflow(text)
    assert message in str(caught.value)
    assert "workflow.yaml:" in str(caught.value)


def test_ids_that_hooks_take() -> None:
    with pytest.raises(WorkflowError, match="is the name of a hook"):
        loads_workflow("tasks:\n  a: {run: x, on_exit: y}\n  a.on_exit: {run: z}\n")
    with pytest.raises(WorkflowError, match="is the name of a hook"):
        loads_workflow("on_exit: y\ntasks:\n  on_exit: {run: z}\n")


def test_a_condition_that_fails_before_a_run_is_a_mistake(tmp_path: Path) -> None:
    write(tmp_path, "params: {n: [1]}\ntasks:\n  a: {if: params.n > 3, run: echo}\n")
    done = lightflow(tmp_path, "run", "flow.yaml")
    assert done.returncode == 2
    assert done.stderr.startswith("flow.yaml:3:11: tasks.a.if: '>' not supported")
    assert not (tmp_path / "lightflow.db").exists()


# -- what decides ------------------------------------------------------------------------------------------------------


def test_branches_and_short_circuits(tmp_path: Path) -> None:
    result = run(
        tmp_path,
        """\
        tasks:
          words: {branch: true, run: 'echo some noise; echo left, right'}
          left: {needs: words, run: echo}
          right: {needs: words, run: echo}
          middle: {needs: words, run: echo}
          json: {branch: true, output: json, run: 'echo "[]"'}
          none: {needs: json, run: echo, trigger_rule: all_done}
          typo: {branch: true, run: echo midle}
          never: {needs: typo, run: echo}
          no: {short_circuit: true, run: "false"}
          direct: {short_circuit: direct, run: "false"}
          a: {needs: no, run: echo}
          b: {needs: [a, direct], run: echo, trigger_rule: all_done}
          c: {needs: direct, run: echo}
          d: {needs: c, run: echo, trigger_rule: all_done}
        """,
    )
    assert {name for name, state in result.items() if state == "SKIPPED"} == {"middle", "none", "a", "b", "c"}
    assert result["typo"] == "FAILED"
    assert result["never"] == "UPSTREAM_FAILED"
    assert result["d"] == "SUCCESS"
    assert "branch words chose left, right" in why(tmp_path, "middle")
    assert "short circuit: no returned False" in why(tmp_path, "b")


def test_preconditions(tmp_path: Path) -> None:
    result = run(
        tmp_path,
        """\
        params: {n: 3}
        env: {SIGN: here}
        tasks:
          fine: {run: echo, preconditions: test $SIGN = here}
          missing: {run: echo, preconditions: [{run: test -e nowhere, message: nothing there}, exit 9]}
          fails: {run: echo, preconditions: [{if: params.n > 5, message: too few, on_fail: fail}]}
          plain: {run: echo, env: {SIGN: there}, preconditions: ["true", "test $SIGN = ${{ params.n }}"]}
        """,
    )
    assert {entry: result[entry] for entry in ("fine", "missing", "fails", "plain")} == {
        "fine": "SUCCESS",
        "missing": "SKIPPED",
        "fails": "FAILED",
        "plain": "SKIPPED",
    }
    assert "missing.precondition_2" not in result, "the second is not asked"
    assert "nothing there (exit code 1)" in why(tmp_path, "missing")
    assert "too few" in why(tmp_path, "fails")
    assert "its precondition does not hold: exit code 1" in why(tmp_path, "plain")


def test_hooks_have_the_folder_environment_and_expressions_of_their_task(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    result = run(
        tmp_path,
        """\
        params: {who: "it's me; exit 1"}
        env: {A: workflow, B: workflow}
        on_exit: {type: python, run: "from liteflow import current_context\\nprint(current_context().hook.status)"}
        tasks:
          a:
            env: {B: task, C: "${{ params.who }}"}
            cwd: below
            run: echo "rows=3" >> $LIGHTFLOW_OUTPUT
            on_success: 'echo "$PWD $A $B $C" ${{ params.who }} ${{ tasks.a.outputs.rows }} $LIGHTFLOW_TASK'
        """,
    )
    assert result == {"a": "SUCCESS", "a.on_success": "SUCCESS", "on_exit": "SUCCESS"}
    shown = lightflow(tmp_path, "logs", "a.on_success").stdout
    assert f"{tmp_path}/below workflow task it's me; exit 1 it's me; exit 1 3 a.on_success" in shown
    assert "SUCCESS" in lightflow(tmp_path, "logs", "on_exit").stdout


def test_a_hook_that_fails_is_reported_at_the_end(tmp_path: Path) -> None:
    write(tmp_path, "tasks:\n  a: {run: echo, on_success: 'echo oh; exit 4'}\n")
    done = lightflow(tmp_path, "run", "flow.yaml")
    assert done.returncode == 0
    assert (
        "warning: the hook a.on_success failed: exit code 4, which does not change the state of the run" in done.stdout
    )
    assert "it is a hook of a, and changes nothing for it" in why(tmp_path, "a.on_success")


# -- stopping and crashes ----------------------------------------------------------------------------------------------

AROUND = """\
on_cancel: echo run_cancelled >> trail
tasks:
  up: {run: echo up >> trail}
  work:
    needs: up
    run: "echo work >> trail; echo > fifo; exec sleep 1000"
    kill_grace: 1
    on_cancel: echo told >> trail
  down: {teardown_of: up, needs: work, run: "echo down >> trail"}
"""


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_fifo(folder: Path) -> None:
    with open(folder / "fifo", encoding="utf-8") as fifo:
        fifo.read()


def trail(folder: Path) -> list[str]:
    try:
        return (folder / "trail").read_text().split()
    except FileNotFoundError:
        return []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path


def test_a_cancelled_run_tears_down_what_it_has_set_up(folder: Path) -> None:
    write(folder, AROUND)
    with start(folder, "run", "flow.yaml") as process:
        wait_for_fifo(folder)
        run_id = status(folder)["run_id"]
        assert lightflow(folder, "cancel", run_id).returncode == 0
        process.communicate(timeout=60)
    assert sorted(trail(folder)) == ["down", "run_cancelled", "told", "up", "work"]
    assert trail(folder)[-1] == "run_cancelled"
    assert states(folder) == {
        "up": "SUCCESS",
        "work": "CANCELLED",
        "down": "SUCCESS",
        "work.on_cancel": "SUCCESS",
        "on_cancel": "SUCCESS",
    }
    assert status(folder)["status"] == "CANCELLED"


def test_a_teardown_with_conditions_hooks_and_preconditions_in_a_cancelled_run(folder: Path) -> None:
    extra = """teardown_of: up
    needs: work
    if: tasks.up.status == "success" and cancelled()
    preconditions: [echo asked >> trail]
    on_start: echo start >> trail
    on_success: echo success >> trail
    run: echo down >> trail
"""
    before, down, _ = AROUND.partition("  down:")
    write(folder, f"{before}{down}\n    {extra}")
    with start(folder, "run", "flow.yaml") as process:
        wait_for_fifo(folder)
        assert lightflow(folder, "cancel", status(folder)["run_id"]).returncode == 0
        process.communicate(timeout=60)
    words = [word for word in trail(folder) if word != "told"]
    assert words == ["up", "work", "asked", "start", "down", "success", "run_cancelled"]


def test_a_second_cancel_ends_the_teardown(folder: Path) -> None:
    os.mkfifo(folder / "second")
    write(
        folder,
        AROUND.replace("echo down >> trail", "echo > second; exec sleep 1000").replace(
            "needs: work", "needs: work, kill_grace: 1"
        ),
    )
    with start(folder, "run", "flow.yaml") as process:
        wait_for_fifo(folder)
        run_id = status(folder)["run_id"]
        with start(folder, "cancel", run_id) as first:
            with open(folder / "second", encoding="utf-8") as fifo:
                fifo.read()
            assert lightflow(folder, "cancel", run_id).returncode == 0
            first.communicate(timeout=60)
        process.communicate(timeout=60)
    assert states(folder)["down"] == "CANCELLED"
    assert status(folder)["status"] == "CANCELLED"


def test_an_interrupted_run_uses_its_setup_when_it_is_resumed(folder: Path) -> None:
    write(folder, AROUND)
    with start(folder, "run", "flow.yaml") as process:
        wait_for_fifo(folder)
        process.send_signal(signal.SIGTERM)
        shown, _ = process.communicate(timeout=60)
    assert "up: set up and not torn down" in shown
    assert status(folder)["standing"] == ["up"]
    assert trail(folder) == ["up", "work"], "neither teardown nor hooks"
    assert status(folder)["status"] == "INTERRUPTED"
    write(folder, AROUND.replace("echo > fifo; exec sleep 1000", "true"))
    assert lightflow(folder, "resume", "flow.yaml").returncode == 0
    assert trail(folder) == ["up", "work", "work", "down"]
    assert status(folder)["standing"] == []


def killed_in(folder: Path, text: str) -> None:
    """Run the file, and kill everything when it has written into the fifo."""
    write(folder, text)
    with start(folder, "run", "flow.yaml") as process:
        wait_for_fifo(folder)
        process.kill()
        process.communicate(timeout=60)


def no_row_tells_another_story(folder: Path) -> None:
    """Every instance ended, and its last event and its last attempt say what its row says."""
    with sqlite3.connect(folder / "lightflow.db") as connection:
        rows = connection.execute("SELECT task_id, status, try_number FROM liteflow_task_instances").fetchall()
        for task_id, state, tries in rows:
            (last,) = connection.execute(
                "SELECT status FROM liteflow_events WHERE task_id=? ORDER BY seq DESC LIMIT 1", (task_id,)
            ).fetchone()
            assert state == last, task_id
            if tries and state in ("SUCCESS", "FAILED"):
                (verdict,) = connection.execute(
                    "SELECT status FROM liteflow_attempts WHERE task_id=? AND attempt=?", (task_id, tries)
                ).fetchone()
                assert state == verdict, task_id


HOOKED = """\
on_start: echo run_start >> trail
on_success: echo run_success >> trail
on_exit: echo run_exit >> trail
tasks:
  a:
    run: echo a >> trail
    on_start: echo start >> trail
    preconditions: [echo asked >> trail]
    on_success: echo success >> trail
    on_exit: echo exit >> trail
  b: {needs: a, run: echo b >> trail}
"""
#: what is written to the trail, in order, and by which instance
INSTANCES = {
    "run_start": "on_start",
    "asked": "a.precondition_1",
    "start": "a.on_start",
    "a": "a",
    "success": "a.on_success",
    "exit": "a.on_exit",
    "b": "b",
    "run_success": "on_success",
    "run_exit": "on_exit",
}


@pytest.mark.parametrize("word", INSTANCES)
def test_a_kill_at_any_point_loses_no_hook_and_repeats_none_that_succeeded(folder: Path, word: str) -> None:
    """The workflow is killed while it does `word`; resumed, that is done again, and nothing that had ended."""
    stuck = HOOKED.replace(f"echo {word} >> trail", f"echo {word} >> trail; echo > fifo; exec sleep 1000")
    assert stuck != HOOKED
    killed_in(folder, stuck)
    before, stored = trail(folder), states(folder)
    assert before.count(word) == 1
    assert stored[INSTANCES[word]] != "SUCCESS"
    write(folder, HOOKED)
    assert lightflow(folder, "resume", "flow.yaml").returncode == 0
    after = trail(folder)[len(before) :]
    for entry, instance in INSTANCES.items():
        done = stored.get(instance) == "SUCCESS"
        if entry == "asked" and stored["a"] != "SUCCESS":
            done = False  # preconditions are asked whenever the task is to start
        assert after.count(entry) == (0 if done else 1), (entry, stored, after)
    assert set(states(folder).values()) == {"SUCCESS"}
    no_row_tells_another_story(folder)


def test_a_kill_in_a_teardown(folder: Path) -> None:
    text = AROUND.replace("echo > fifo; exec sleep 1000", "exit 1")
    killed_in(folder, text.replace("echo down >> trail", "echo down >> trail; echo > fifo; exec sleep 1000"))
    write(folder, text)
    assert lightflow(folder, "resume", "flow.yaml").returncode == 1
    assert trail(folder) == ["up", "work", "down", "up", "work", "down"], (
        "what it had begun to take down is set up again"
    )
    assert states(folder) == {"up": "SUCCESS", "work": "FAILED", "down": "SUCCESS"}
    no_row_tells_another_story(folder)


def test_a_kill_behind_a_failure_loses_no_hook(folder: Path) -> None:
    """The task has failed, its hook is at work, and so is a task beside it."""
    text = """\
    tasks:
      a: {run: echo a >> trail; exit 3, on_failure: 'echo "hook:$LIGHTFLOW_HOOK_ERROR" | tr " " _ >> trail'}
      b: {run: echo b >> trail}
    """
    killed_in(folder, text.replace("'echo \"hook", "'echo > fifo; sleep 1000; echo \"hook"))
    assert "hook" not in " ".join(trail(folder))
    write(folder, text.replace("exit 3", "true"))
    assert lightflow(folder, "resume", "flow.yaml").returncode == 0
    assert trail(folder)[2:].count("hook:exit_code_3") == 1, "it is told what had happened"
    no_row_tells_another_story(folder)
