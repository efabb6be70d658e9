"""Child runs: values, retries, reruns, limits, and that no process of one outlives what waits for it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from child_flow import leaf, middle
from process_kit import is_alive

from liteflow import Concurrency, Dag, DagRun, DefinitionError, Param, Repeat, StoreError, current_context
from liteflow.api import History, RunRecord
from liteflow.processes import tree

LIMIT_S = 60.0
FLOW = Path(__file__).with_name("child_flow.py")
LEVELS = ("top", "middle", "leaf")
NAMES = ["top_first", "middle_first", "leaf_first", "leaf_second", "leaf_teardown", "middle_last", "top_last"]


# -- values and ids ----------------------------------------------------------------------------------------------------


def doubled() -> int:
    return int(current_context().params["n"]) * 2


def child(**options: object) -> Dag:
    dag = Dag("child", params={"n": Param("integer")}, **options)  # type: ignore[arg-type]
    dag.outputs["doubled"] = dag.task(doubled)
    return dag


def add(numbers: list[dict[str, int]]) -> int:
    return sum(number["doubled"] for number in numbers)


def children(run: DagRun) -> list[RunRecord]:
    with History(run.db_path) as history:
        return history.children(run.run_id)


def test_a_child_run_has_parameters_outputs_and_a_parent(db: str) -> None:
    with Dag("parent", db) as dag:
        number = dag.task(lambda: 21, task_id="number")
        part = dag.workflow("part", child(), params={"n": number})
        dag.task(lambda value: value + 1, task_id="more", value=part.output("doubled"))
    run = dag.run().raise_for_failure()
    assert run.value("part") == {"doubled": 42}
    assert run.value("more") == 43
    (record,) = children(run)
    assert (record.dag_id, record.status, record.params) == ("child", "SUCCESS", {"n": 21})
    assert (record.parent_run_id, record.parent_task_id, record.parent_map_index) == (run.run_id, "part", -1)
    with History(db) as history:
        assert [each.run_id for each in history.runs()] == [run.run_id]
        assert [each.dag_id for each in history.runs(with_children=True)] == ["child", "parent"]
        assert history.run_count() == 1
        assert history.run(run.run_id[:-1]).run_id == run.run_id, "a prefix means the parent"
        assert history.ancestors(record.run_id) == [run.run_id]


def test_each_instance_of_a_mapped_task_has_a_child_run(db: str) -> None:
    with Dag("parent", db) as dag:
        parts = dag.workflow("part", child(), expand={"n": [1, 2, 3, 4, 5]})
        dag.task(add, numbers=parts)
    run = dag.run(2).raise_for_failure()
    assert run.value("add") == 30
    records = children(run)
    assert {record.parent_map_index for record in records} == {0, 1, 2, 3, 4}
    assert len({record.run_id for record in records}) == 5


def test_a_retry_continues_the_child_run(db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("leaf_second.fail").touch()
    with Dag("parent", db) as dag:
        dag.workflow("part", leaf(), params={"part": "x"}, retries=1)
    run = dag.run().raise_for_failure()
    assert sorted(ran()) == ["leaf_first", "leaf_first", "leaf_second", "leaf_second", "leaf_teardown", "leaf_teardown"]
    assert len(children(run)) == 1


def test_a_resume_continues_a_child_run_that_failed(db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("middle_last.fail").touch()
    with Dag("parent", db) as dag:
        dag.workflow("part", middle())
    run = dag.run()
    why = f"child run {children(run)[0].run_id} is FAILED: middle_last: middle_last was to fail"
    assert run.failures() == {"part": why}
    assert dag.resume(run.run_id).status == "SUCCESS"
    assert ran() == ["middle_first", "leaf_first", "leaf_second", "leaf_teardown", "middle_last", "middle_last"]
    with History(db) as history:
        assert [attempt.codes for attempt in history.attempts(run.run_id, "part")] == [("workflow:failed",), ()]


def test_a_rerun_starts_another_child_run(db: str) -> None:
    with Dag("parent", db) as dag:
        dag.workflow("part", child(), params={"n": 1})
    run = dag.run().raise_for_failure()
    dag.retry(run.run_id, "part").raise_for_failure()
    assert len(children(run)) == 2
    dag.resume(run.run_id)
    assert len(children(run)) == 2


def test_each_iteration_has_a_child_run(db: str) -> None:
    values = []

    def is_third(value: object) -> bool:
        values.append(value)
        return len(values) == 3

    with Dag("parent", db) as dag:
        dag.workflow("part", child(), params={"n": 1}, repeat=Repeat(until=is_third, max=5))
    run = dag.run().raise_for_failure()
    assert [record.status for record in children(run)] == ["SUCCESS"] * 3


def test_a_retry_can_start_another_child_run(db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("middle_last.fail").touch()
    with Dag("parent", db) as dag:
        dag.workflow("part", middle(), retries=1, on_retry="new")
    run = dag.run().raise_for_failure()
    assert sorted(record.status for record in children(run)) == ["FAILED", "SUCCESS"]
    assert ran().count("middle_first") == 2


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_parameters_are_checked_when_the_task_is_added(db: str) -> None:
    dag = Dag("parent", db)
    for params, message in (
        ({"n": "x"}, "params.n: must be a whole number"),
        ({}, "params.n needs a value"),
        ({"n": 1, "m": 2}, "params.m: there is no such parameter"),
    ):
        with pytest.raises(DefinitionError, match=message):
            dag.workflow("part", child(), params=params)


def test_a_value_that_is_not_valid_fails_the_task_before_the_child_run_starts(db: str) -> None:
    with Dag("parent", db) as dag:
        dag.workflow("part", child(), params={"n": dag.task(lambda: "x", task_id="text")}, retries=3)
    run = dag.run()
    assert "parameter 'n': must be a whole number" in run.failures()["part"]
    assert children(run) == []
    with History(db) as history:
        assert [attempt.codes for attempt in history.attempts(run.run_id, "part")] == [("workflow:refused",)]


def test_a_dag_cannot_execute_itself(db: str) -> None:
    first, second = Dag("first", db), Dag("second", db)
    first.workflow("down", second)
    with pytest.raises(DefinitionError, match="executes this dag"):
        second.workflow("up", first)
    with pytest.raises(DefinitionError, match="executes this dag"):
        first.workflow("self", first)


def test_a_child_run_in_the_group_of_its_parent_is_refused(db: str) -> None:
    with Dag("parent", db, concurrency=Concurrency("shared", 1)) as dag:
        dag.workflow("part", child(concurrency=Concurrency("shared", 1)), params={"n": 1})
    run = dag.run()
    assert f"run {run.run_id}, which waits for this child run, is in its concurrency group" in run.failures()["part"]


def test_children_share_the_pool_of_their_parent(db: str) -> None:
    """The task that waits holds no slot of the pool."""
    with Dag("inner", pools={"one": 1}) as inner:
        inner.outputs["doubled"] = inner.task(lambda: 4, task_id="doubled", pool="one")
    with Dag("parent", db, pools={"one": 1}) as dag:
        dag.workflow("part", inner, pool="one")
    assert dag.run().raise_for_failure().value("part") == {"doubled": 4}


def test_there_is_a_limit_of_the_depth(db: str) -> None:
    dag = Dag("d0", db)
    dag.task(lambda: 1, task_id="end")
    for number in range(1, 12):
        outer = Dag(f"d{number}", db)
        outer.workflow("inner", dag)
        dag = outer
    run = dag.run()
    assert "there are 11 runs above it, and at most 10 are allowed" in run.failures()["inner"]


# -- the end of processes ----------------------------------------------------------------------------------------------


def ran() -> list[str]:
    return Path("ran").read_text().split() if os.path.exists("ran") else []


def wait_until(condition: Callable[[], object], what: str) -> None:
    give_up = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < give_up, what
        time.sleep(0.01)


class Top:
    """The dag `top` in a process of its own."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str]

    def start(self, *arguments: str, until: str = "") -> subprocess.Popen[str]:
        command = [sys.executable, str(FLOW), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if until:
            wait_until(lambda: until in ran(), f"{until} has not started: {ran()}")
        return self.process

    def end(self) -> str:
        output, _ = self.process.communicate(timeout=LIMIT_S)
        return output

    def records(self) -> dict[str, RunRecord]:
        with History("state.db") as history:
            return {record.dag_id: record for record in history.runs(with_children=True)}

    def processes(self) -> list[int]:
        """Return the process and all processes below it, the guardian of the run first."""
        table = tree.members(lambda tag: False, roots={self.process.pid: tree.process(self.process.pid).started})  # type: ignore[union-attr]
        return sorted(table)

    def guardian(self) -> int:
        rows = tree.processes().values()
        return next(row.pid for row in rows if row.parent == self.process.pid)


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Top]:
    monkeypatch.chdir(tmp_path)
    started = Top()
    yield started
    if started.process.poll() is None:
        started.process.kill()
        started.process.communicate()


def test_a_cancel_goes_through_three_levels(top: Top) -> None:
    Path("leaf_second.hold").touch()
    top.start("run", until="leaf_second")
    from liteflow.api import request

    request("state.db", "r", "cancel", "cancelled by a test")
    assert top.end().startswith("CANCELLED")
    records = top.records()
    assert {name: record.status for name, record in records.items()} == dict.fromkeys(LEVELS, "CANCELLED")
    assert ran() == ["top_first", "middle_first", "leaf_first", "leaf_second", "leaf_teardown"]
    with History("state.db") as history:
        assert history.instance("r", "whole", -1).status == "CANCELLED"  # type: ignore[union-attr]


def test_an_interruption_goes_through_three_levels_and_a_resume_continues(top: Top) -> None:
    Path("leaf_second.hold").touch()
    top.start("run", until="leaf_second").send_signal(signal.SIGTERM)
    top.end()
    assert {record.status for record in top.records().values()} == {"INTERRUPTED"}
    assert top.records()["leaf"].reason == "interrupted by SIGTERM"
    with History("state.db") as history:
        assert history.instance("r", "whole", -1).status == "WAITING"  # type: ignore[union-attr]
    before = {record.run_id for record in top.records().values()}
    os.unlink("leaf_second.hold")
    top.start("resume", "r")
    assert top.end().startswith("SUCCESS")
    assert {record.run_id for record in top.records().values()} == before
    assert ran().count("leaf_second") == 2
    assert [name for name in ran() if name != "leaf_second"] == [name for name in NAMES if name != "leaf_second"]


def test_a_cancel_after_an_interruption_goes_through_three_levels(top: Top) -> None:
    Path("leaf_second.hold").touch()
    top.start("run", until="leaf_second").send_signal(signal.SIGTERM)
    top.end()
    from liteflow.api import cancel_interrupted

    cancel_interrupted("state.db", "r", "cancelled by a test")
    records = top.records()
    assert {name: record.status for name, record in records.items()} == dict.fromkeys(LEVELS, "CANCELLED")
    assert records["leaf"].reason == "its parent run was cancelled by a test"
    os.unlink("leaf_second.hold")
    top.start("resume", "r")
    assert top.end().startswith("SUCCESS")
    assert {record.status for record in top.records().values()} == {"SUCCESS"}


@pytest.mark.parametrize("victims", ["parent", "guardian", "both"])
def test_nothing_of_a_child_run_outlives_its_parent(top: Top, victims: str) -> None:
    Path("leaf_second.hold").touch()
    top.start("run", until="leaf_second")
    processes, guardian = top.processes(), top.guardian()
    killed = {"parent": [top.process.pid], "guardian": [guardian], "both": [guardian, top.process.pid]}[victims]
    for pid in killed:
        os.kill(pid, signal.SIGSTOP)  # so that neither sees the end of the other
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    if victims == "guardian":  # the parent starts another one, and continues the child run
        wait_until(lambda: ran().count("leaf_second") == 2, "the child run is continued")
        assert not any(is_alive(pid) for pid in processes if pid != top.process.pid)
        os.unlink("leaf_second.hold")
        assert top.end().startswith("SUCCESS")
    else:
        top.end()
        wait_until(lambda: not any(map(is_alive, processes)), "processes live on without their parent")
        os.unlink("leaf_second.hold")
        top.start("resume", "r")
        assert top.end().startswith("SUCCESS")
    assert ran().count("leaf_second") == 2
    assert [name for name in ran() if name != "leaf_second"] == [name for name in NAMES if name != "leaf_second"]
    assert {record.status for record in top.records().values()} == {"SUCCESS"}
    assert len(top.records()) == 3


def owner_of(dag_id: str) -> int:
    with History("state.db") as history:
        return next(int(run.owner_pid or 0) for run in history.runs(dag_id, with_children=True))


def test_a_child_run_whose_process_is_killed_continues(top: Top) -> None:
    Path("leaf_second.hold").touch()
    top.start("run", until="leaf_second")
    for count in (2, 3):
        os.kill(owner_of("leaf"), signal.SIGKILL)
        wait_until(lambda count=count: ran().count("leaf_second") == count, "the child run is continued")
    os.unlink("leaf_second.hold")
    assert top.end().startswith("SUCCESS")
    assert ran().count("leaf_first") == 1


def test_a_child_run_whose_process_dies_again_and_again_fails(top: Top) -> None:
    Path("leaf_second.hold").touch()
    top.start("run", until="leaf_second")
    for count in (2, 3, 4):
        os.kill(owner_of("leaf"), signal.SIGKILL)
        wait_until(lambda count=count: ran().count("leaf_second") == count or count == 4, "the child run is continued")
    assert "3 polls in a row failed" in top.end()
    with History("state.db") as history:
        run = next(run for run in history.runs(with_children=True) if run.dag_id == "middle")
        assert history.attempts(run.run_id, "part")[0].codes == ("workflow:died",)


def test_a_timeout_cancels_the_child_run(db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("leaf_second.hold").touch()
    with Dag("parent", db) as dag:
        dag.workflow("part", leaf(), params={"part": "x"}, timeout=5.0)
    run = dag.run()
    assert "timed out after 5 s" in run.failures()["part"]
    assert children(run)[0].status == "CANCELLED"
    assert ran()[-1] == "leaf_teardown"


# -- errors of the state file, and child runs that nothing continues ---------------------------------------------------


class Busy(Dag):
    """A dag whose first runs find the state file in use by another program."""

    def run(self, *arguments: object, **options: object) -> DagRun:
        with open("tries", "a", encoding="utf-8") as file:
            file.write("x")
        if os.path.getsize("tries") <= int(os.environ["BUSY"]):
            raise StoreError("state.db: database is locked")
        return super().run(*arguments, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("busy", "status"), [(1, "SUCCESS"), (99, "FAILED")])
def test_a_child_run_is_tried_again_if_the_state_file_is_in_use(
    busy: int, status: str, db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUSY", str(busy))
    inner = Busy("inner")
    inner.task(lambda: 1, task_id="only")
    with Dag("parent", db) as dag:
        dag.workflow("part", inner)
    run = dag.run()
    assert run.status == status
    with History(db) as history:
        assert len(history.attempts(run.run_id, "part")) == 1
    if status == "FAILED":
        assert os.path.getsize("tries") == 3
        assert "3 polls in a row failed; the last: StoreError: state.db: database is locked" in run.failures()["part"]


def test_a_second_cancel_ends_the_child_runs_as_cancelled(top: Top) -> None:
    for name in ("leaf_second", "leaf_teardown"):
        Path(f"{name}.hold").touch()
    top.start("run", until="leaf_second")
    from liteflow.api import request

    request("state.db", "r", "cancel", "cancelled by a test")
    wait_until(lambda: "leaf_teardown" in ran(), "the teardown has not started")
    request("state.db", "r", "cancel", "cancelled by a test")
    assert top.end().startswith("CANCELLED")
    records = top.records()
    assert {name: record.status for name, record in records.items()} == dict.fromkeys(LEVELS, "CANCELLED")
    assert records["middle"].reason == "cancelled by the parent run"


def interrupted(top: Top) -> None:
    """Leave three levels of runs interrupted."""
    Path("leaf_second.hold").touch()
    top.start("run", until="leaf_second").send_signal(signal.SIGTERM)
    top.end()
    os.unlink("leaf_second.hold")


@pytest.mark.parametrize("word", ["success", "failed"])
def test_a_mark_cancels_the_child_run_of_the_task(top: Top, word: str) -> None:
    interrupted(top)
    from child_flow import top as dag

    dag().mark("r", "whole", word, reason="loaded by hand")
    records = top.records()
    assert {name: records[name].status for name in ("middle", "leaf")} == {"middle": "CANCELLED", "leaf": "CANCELLED"}
    assert re.fullmatch("its task was marked by .+: loaded by hand", records["leaf"].reason or "")
    top.start("resume", "r")
    assert top.end().startswith("SUCCESS")
    assert ran().count("leaf_second") == (1 if word == "success" else 2)
    assert {record.status for record in top.records().values()} == (
        {"SUCCESS", "CANCELLED"} if word == "success" else {"SUCCESS"}
    )


@pytest.mark.parametrize("action", ["retry", "clear"])
def test_a_task_that_runs_again_leaves_no_interrupted_child_run(top: Top, action: str) -> None:
    interrupted(top)
    from child_flow import top as dag

    flow = dag()
    if action == "retry":
        assert flow.retry("r", "whole").status == "SUCCESS"
    else:
        flow.clear("r", "whole")
        assert flow.resume("r").status == "SUCCESS"
    with History("state.db") as history:
        runs = history.runs(with_children=True)
        assert sorted(run.status for run in runs) == ["CANCELLED"] * 2 + ["SUCCESS"] * 3
        reasons = {run.reason for run in runs if run.status == "CANCELLED"}
    assert len(reasons) == 1
    assert re.fullmatch("its parent run was set back: run again from whole by .+", str(reasons.pop()))
