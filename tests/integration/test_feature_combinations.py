"""Fan-out, control flow, limits and resume in combination, from the command line and from Python."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import flow_folder
import pytest
from flow_folder import COMMAND, write

from liteflow import Dag, Task, current_context
from liteflow.limits import Pool
from liteflow.planning.graph import Graph
from liteflow.planning.setup_teardown import Teardown, to_set_up_again

MODES = ["inline", "thread", "process", "async"]
TOKEN = {"TOKEN": "tok-4711-abcd"}
lightflow = partial(flow_folder.lightflow, extra_env=TOKEN)
environment = partial(flow_folder.environment, TOKEN)


def states(folder: Path) -> dict[str, str]:
    with sqlite3.connect(folder / "lightflow.db") as connection:
        rows = connection.execute("SELECT task_id, map_index, status FROM liteflow_task_instances").fetchall()
    return {task if index < 0 else f"{task}[{index}]": status for task, index, status in rows}


def instances(folder: Path, task: str) -> list[tuple[int, str, int]]:
    with sqlite3.connect(folder / "lightflow.db") as connection:
        return connection.execute(
            "SELECT map_index, status, try_number FROM liteflow_task_instances WHERE task_id=? AND map_index>=0",
            (task,),
        ).fetchall()


def trail(folder: Path) -> list[str]:
    return (folder / "trail").read_text().splitlines()


# -- what was taken down -----------------------------------------------------------------------------------------------

AROUND = """\
    workflow_name: around
    tasks:
      up: {setup: true, run: "mkdir place; echo up >> trail; echo place", output: last_line}
      tables: {needs: up, setup: true, run: touch place/tables; echo tables >> trail}
      load: {needs: tables, run: echo load >> trail}
      test: {needs: load, run: echo test >> trail; test -e place/tables && test -e fixed}
      down: {teardown_of: up, needs: test, run: rm -r place; echo down >> trail}
      tell: {needs: test, run: test -e told}
    """


def test_what_was_torn_down_is_set_up_again_for_what_has_still_to_run(tmp_path: Path) -> None:
    write(tmp_path, AROUND)
    assert lightflow(tmp_path, "run", "flow.yaml").returncode == 1
    (tmp_path / "fixed").touch()
    assert lightflow(tmp_path, "resume", "flow.yaml").returncode == 1, "tell fails"
    first, again = trail(tmp_path)[:5], trail(tmp_path)[5:]
    assert first == ["up", "tables", "load", "test", "down"]
    assert again == ["up", "tables", "test", "down"], "load is kept, and test waits for the setups that are done again"
    (tmp_path / "told").touch()
    assert lightflow(tmp_path, "resume", "flow.yaml").returncode == 0
    assert trail(tmp_path)[9:] == [], "nothing that stands on the setup was left to run"
    with sqlite3.connect(tmp_path / "lightflow.db") as connection:
        reasons = connection.execute(
            "SELECT task_id, reason FROM liteflow_events WHERE previous='SUCCESS' AND status='PENDING' ORDER BY seq"
        ).fetchall()
    assert dict(reasons) == {
        "up": "down has torn it down, and a task needs it again",
        "tables": "a setup that it needs runs again",
        "down": "a setup that it tears down runs again",
    }


def test_a_run_that_is_tried_again_and_killed_in_its_back_off(tmp_path: Path) -> None:
    write(tmp_path, AROUND.replace("tasks:", "retry: {max: 1, delay: 60s}\n    tasks:", 1))
    process = subprocess.Popen(
        [*COMMAND, "run", "flow.yaml"], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "try 2 of 2" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    for name in ("fixed", "told"):
        (tmp_path / name).touch()
    assert lightflow(tmp_path, "resume", "flow.yaml").returncode == 0
    assert trail(tmp_path)[5:] == ["up", "tables", "test", "down"]


def test_a_setup_that_is_killed_while_it_is_done_again_is_done_once_more(tmp_path: Path) -> None:
    write(tmp_path, AROUND)
    lightflow(tmp_path, "run", "flow.yaml")
    for name in ("fixed", "told"):
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "fifo")
    write(tmp_path, AROUND.replace("touch place/tables;", "touch place/tables; echo > fifo; exec sleep 1000;"))
    process = subprocess.Popen([*COMMAND, "resume", "flow.yaml"], cwd=tmp_path, env=environment())
    (tmp_path / "fifo").read_text()  # `up` stands again, and `tables` is at work
    process.kill()
    process.wait()
    write(tmp_path, AROUND)
    assert lightflow(tmp_path, "resume", "flow.yaml").returncode == 0
    assert trail(tmp_path)[5:] == ["up", "tables", "test", "down"], "up stands: it is not done a third time"


def test_tasks_that_were_skipped_need_nothing_set_up(tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        workflow_name: skipped
        params: {full: false}
        tasks:
          up: {setup: true, run: echo up >> trail}
          choose: {needs: up, branch: true, run: echo small}
          small: {needs: choose, run: echo}
          large: {needs: choose, run: echo}
          more: {needs: up, if: params.full, run: echo}
          down: {teardown_of: up, needs: [small, large, more], run: echo down >> trail}
          tell: {needs: small, run: test -e told}
        """,
    )
    assert lightflow(tmp_path, "run", "flow.yaml").returncode == 1
    (tmp_path / "told").touch()
    assert lightflow(tmp_path, "resume", "flow.yaml").returncode == 0
    assert trail(tmp_path) == ["up", "down"]


@pytest.mark.parametrize("mode", MODES)
def test_a_mapped_setup_is_set_up_again(tmp_path: Path, mode: str) -> None:
    seen = tmp_path / "seen"

    def up(n: int) -> int:
        with seen.open("a") as file:
            file.write(f"up {n}\n")
        return n

    def work(up: list[int]) -> int:
        if not (tmp_path / "fixed").exists():
            raise ValueError("not yet")
        return sum(up)

    def down() -> None:
        with seen.open("a") as file:
            file.write("down\n")

    with Dag("mapped_setup", str(tmp_path / "lf.db")) as dag:
        ups = dag.partial(up, setup=True).expand(n=[1, 2])
        after = dag.task(work)
        end = dag.task(down, teardown=True)
        ups >> end
        after >> end
    assert dag.run(mode=mode).status == "FAILED"
    (tmp_path / "fixed").touch()
    run = dag.resume(mode=mode)
    assert run.status == "SUCCESS"
    assert run.value("work") == 3
    assert sorted(seen.read_text().split("\n")[:3]) == ["down", "up 1", "up 2"]
    assert sorted(seen.read_text().split("\n")[3:6]) == ["down", "up 1", "up 2"]


SCOPES = Graph({"o": [], "i": ["o"], "w": ["i"], "id": ["i", "w"], "x": ["o"], "od": ["o", "i", "w", "id", "x"]})


@pytest.mark.parametrize(
    ("to_do", "down", "wanted"),
    [
        (["w"], [], ""),
        ([], ["id", "od"], ""),
        (["w"], ["id"], "i id"),
        (["w"], ["id", "od"], "i id o od"),
        (["x"], ["id", "od"], "o od"),
        (["x"], ["od"], "o od"),
        (["w"], ["od"], "i o od"),
    ],
)
def test_what_is_set_up_again(to_do: list[str], down: list[str], wanted: str) -> None:
    """An inner setup `i` (taken down by `id`) on an outer one `o` (`od`)."""
    index = SCOPES.index
    repeated = to_set_up_again(
        [index["o"], index["i"]],
        {index["id"]: Teardown((index["i"],)), index["od"]: Teardown((index["o"],))},
        SCOPES.upstream,
        SCOPES.downstream,
        to_do={index[name] for name in to_do},
        torn_down=[index[name] for name in down],
    )
    assert " ".join(sorted(SCOPES.ids[node] for node in repeated)) == wanted


# -- hooks of mapped tasks ---------------------------------------------------------------------------------------------


HOOKED = """\
    workflow_name: hooked
    params: {folder: sub}
    pools: {slots: 1}
    tasks:
      list: {output: json, run: 'echo "[\\"a\\", \\"b c\\"]"'}
      each:
        foreach: {items: "${{ tasks.list.result }}", as: file, max_parallel: 1}
        pool: slots  # a limit of instances, and a pool
        env: {NAME: "<${{ file }}>", FOLDER: "${{ params.folder }}"}
        cwd: ${{ params.folder }}
        preconditions: ["echo asked $NAME $FOLDER ${PWD##*/} >> ../trail"]
        run: exit 3
        retries: 1
        continue_on_error: {exit_codes: [3]}
        on_retry: echo retry ${{ file }} ${{ task.index }} >> ../trail
        on_failure: echo failed $NAME $LIGHTFLOW_HOOK_MAP_INDEX ${PWD##*/} >> ../trail
    """


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a mapped task with hooks, whose tolerated failures use up its retry, and return the folder."""
    folder = tmp_path_factory.mktemp("hooked")
    (folder / "sub").mkdir()
    write(folder, HOOKED)
    assert lightflow(folder, "run", "flow.yaml").returncode == 0
    return folder


def test_a_precondition_of_a_mapped_task_runs_once_with_its_variables_and_folder(hooked: Path) -> None:
    assert [line for line in trail(hooked) if line.startswith("asked")] == ["asked sub sub"]


def test_hooks_of_instances_know_the_item(hooked: Path) -> None:
    lines = [line for line in trail(hooked) if not line.startswith("asked")]
    assert sorted(lines) == ["failed <a> 0 sub", "failed <b c> 1 sub", "retry a 0", "retry b c 1"]


def test_instances_whose_failures_are_tolerated_have_failed(hooked: Path) -> None:
    result = states(hooked)
    assert {result[name] for name in ("each", "each[0]", "each[1]")} == {"FAILED"}
    assert all(state == "SUCCESS" for name, state in result.items() if not name.startswith("each"))


def test_a_hook_of_an_instance_has_a_secret_that_is_nowhere_stored(tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        secrets: [TOKEN]
        tasks:
          each:
            foreach: [a]
            run: exit 3
            on_failure: echo failed ${{ item }} ${{ secrets.TOKEN }} | tee -a trail
        """,
    )
    assert lightflow(tmp_path, "run", "flow.yaml").returncode == 1
    assert trail(tmp_path) == ["failed a tok-4711-abcd"]
    (tmp_path / "trail").unlink()
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        assert b"tok-4711" not in path.read_bytes(), path


def test_a_hook_in_python_has_the_values_of_a_matrix_as_its_item(tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        tasks:
          cube:
            matrix: {os: [linux], version: ["3.11"]}
            run: echo
            on_exit:
              type: python
              run: |
                from liteflow import current_context
                with open("trail", "a") as file:
                    print(current_context().item, file=file)
        """,
    )
    assert lightflow(tmp_path, "run", "flow.yaml").returncode == 0
    assert trail(tmp_path) == ["{'os': 'linux', 'version': '3.11'}"]


def test_a_hook_of_a_mapped_task_without_a_list_has_no_item(tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        tasks:
          number: {output: json, run: echo 3}
          none:
            foreach: ${{ tasks.number.result }}
            run: echo
            on_failure: echo none of ${{ item | default('all') }} >> trail
        """,
    )
    assert lightflow(tmp_path, "run", "flow.yaml").returncode == 1
    assert trail(tmp_path) == ["none of all"]
    assert states(tmp_path)["none"] == "FAILED"


def test_a_hook_that_a_resume_runs_knows_the_item(tmp_path: Path) -> None:
    text = """\
        workflow_name: killed
        tasks:
          list: {output: json, run: 'echo "[\\"a\\", \\"b\\"]"'}
          each:
            foreach: ${{ tasks.list.result }}
            run: echo
            on_success: STUCK echo ${{ item }} >> trail
        """
    os.mkfifo(tmp_path / "fifo")
    write(tmp_path, text.replace("STUCK", "echo > fifo; exec sleep 1000;"))
    process = subprocess.Popen([*COMMAND, "run", "flow.yaml", "--max-workers", "1"], cwd=tmp_path, env=environment())
    (tmp_path / "fifo").read_text()
    process.kill()
    process.wait()
    write(tmp_path, text.replace("STUCK ", ""))
    assert lightflow(tmp_path, "resume", "flow.yaml").returncode == 0
    assert sorted(trail(tmp_path)) == ["a", "b"]


def test_what_comes_before_the_instances_cannot_name_one(tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        tasks:
          each:
            foreach: [a]
            if: item == "a"
            run: echo
            on_start: echo ${{ item }}
            preconditions: ["echo ${{ item }}"]
            on_failure: echo ${{ matrix.os }}
        on_exit: echo ${{ item }}
        """,
    )
    done = lightflow(tmp_path, "validate", "flow.yaml")
    assert done.returncode == 2
    late = "item is not known yet: `if`, `preconditions` and `on_start` come once, before all instances"
    assert f"flow.yaml:4:9: tasks.each.if: {late}" in done.stderr
    assert f"flow.yaml:6:20: tasks.each.on_start: {late}" in done.stderr
    assert f"flow.yaml:7:27: tasks.each.preconditions: {late}" in done.stderr
    assert "flow.yaml:8:22: tasks.each.on_failure: matrix is known inside a task with `matrix`" in done.stderr
    assert "flow.yaml:9:15: on_exit: item is known inside a task with `foreach`" in done.stderr


@pytest.mark.parametrize("mode", MODES)
def test_everything_at_once_from_python(tmp_path: Path, mode: str) -> None:
    trail = tmp_path / "trail"

    def say(text: str) -> None:
        with trail.open("a") as file:
            file.write(text + "\n")

    def hook() -> None:
        context = current_context()
        assert context.hook is not None
        say(f"{context.hook.event} {context.hook.map_index} {context.item}")

    def numbers() -> list[int]:
        return [1, 2, 0]

    def choose() -> str:
        return "divide"

    def divide(n: int, k: int) -> float:
        return k / n

    def other() -> None: ...

    def report(divide: list[float]) -> list[float]:
        return divide

    def down() -> None:
        say("down")

    with Dag("all", str(tmp_path / "lf.db"), pools={"slots": Pool(1)}) as dag:
        up = dag.task(numbers, setup=True)
        branch: Task = dag.branch(choose)
        options: dict[str, Any] = {"pool": "slots", "continue_on_error": [ZeroDivisionError], "priority": 2}
        each = dag.partial(divide, k=6, on_failure=hook, on_exit=hook, **options).expand(n=up)
        up >> branch >> each
        branch >> dag.task(other)
        last = dag.task(report, trigger_rule="none_failed")
        end = dag.task(down, teardown=True)
        up >> end
        last >> end
    run = dag.run(mode=mode, max_workers=2)
    assert run.status == "SUCCESS"
    assert run.value("report") == [6.0, 3.0]
    assert run.statuses() == {
        **dict.fromkeys(["numbers", "choose", "report", "down"], "SUCCESS"),
        "divide": "FAILED",
        "other": "SKIPPED",
    }
    wanted = ["down", "on_exit 0 {'n': 1}", "on_exit 1 {'n': 2}", "on_exit 2 {'n': 0}", "on_failure 2 {'n': 0}"]
    assert sorted(trail.read_text().splitlines()) == wanted


# -- instances that the previous part of the run has left ------------------------------------------------------------


def test_instances_end_with_a_task_that_is_not_expanded_again(tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        workflow_name: left
        tasks:
          each: {foreach: [a, b], preconditions: [test ! -e no], run: 'test ${{ item }} = a || test -e fixed'}
          beside: {run: test -e fixed}
        """,
    )
    lightflow(tmp_path, "run", "flow.yaml")
    (tmp_path / "no").touch()
    lightflow(tmp_path, "resume", "flow.yaml")
    assert instances(tmp_path, "each") == [(0, "SUCCESS", 1), (1, "SKIPPED", 1)]
    (tmp_path / "no").unlink()
    (tmp_path / "fixed").touch()
    assert lightflow(tmp_path, "resume", "flow.yaml").returncode == 0
    assert instances(tmp_path, "each") == [(0, "SUCCESS", 1), (1, "SUCCESS", 2)], "it did not skip itself"


def test_a_task_that_a_resume_skipped_is_evaluated_again_by_the_next(tmp_path: Path) -> None:
    text = "tasks:\n  a: {preconditions: [test ! -e no], run: test -e fixed}\n  b: {run: test -e fixed}\n"
    (tmp_path / "flow.yaml").write_text(text)
    lightflow(tmp_path, "run", "flow.yaml")
    (tmp_path / "no").touch()
    lightflow(tmp_path, "resume", "flow.yaml")
    assert states(tmp_path)["a"] == "SKIPPED"
    (tmp_path / "no").unlink()
    (tmp_path / "fixed").touch()
    lightflow(tmp_path, "resume", "flow.yaml")
    assert states(tmp_path)["a"] == "SUCCESS"


def test_a_list_that_became_shorter_and_longer(tmp_path: Path) -> None:
    def define(items: list[str], fixed: bool) -> Dag:
        def each(x: str) -> str:
            if x == "b" and not fixed:
                raise ValueError(x)
            return x

        def join(each: list[str]) -> str:
            if not fixed:
                raise ValueError("join")
            return "".join(each)

        with Dag("lists", str(tmp_path / "lf.db")) as dag:
            dag.partial(each).expand(x=items)
            dag.task(join)
        return dag

    define(["a", "b", "c"], False).run(mode="thread")
    define(["a", "c"], False).resume()  # c is now the second, and the third is no more
    run = define(["a", "c"], True).resume()
    assert run.value("join") == "ac", "what is no instance any more has no value either"
    define(["a", "b", "c"], False).run(mode="thread")
    define(["a", "b"], False).resume()
    run = define(["a", "b", "c"], True).resume()
    assert run.value("join") == "abc", "the third ran once more"
