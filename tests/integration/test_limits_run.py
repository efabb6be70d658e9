"""Limits of runs and between runs, with real processes: pools, groups, timeouts, a run that is tried again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from liteflow import Change, Dag, DagRun, Observer, RetryPolicy
from liteflow.definition.options import make_options
from liteflow.state.history import History

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "lightflow"]
#: Runs until the file `go` is there.
WAIT = "echo up >> trail; while [ ! -e go ]; do sleep 0.02; done"
HOLD = f"workflow_name: hold\npools: {{gpu: 1}}\ntasks:\n  a: {{run: '{WAIT}', pool: gpu, kill_grace: 1}}\n"


class Folder:
    """A folder to run workflows in."""

    def __init__(self, path: Path) -> None:
        self.path, self.started = path, list[subprocess.Popen[str]]()
        plain = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTFLOW_")}
        self.env = {**plain, "PYTHONPATH": str(ROOT)}

    def write(self, name: str, text: str) -> str:
        (self.path / name).write_text(text, encoding="utf-8")
        return name

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.path,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json").stdout)

    def sql(self, text: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(f"file:{self.path}/lightflow.db?mode=ro", uri=True)
        try:
            return connection.execute(text).fetchall()
        finally:
            connection.close()

    def until(self, text: str, expected: list[tuple[Any, ...]]) -> None:
        """Wait for the answer to a question to the state file."""
        give_up = time.monotonic() + 120
        found: object = None
        while found != expected:
            assert time.monotonic() < give_up, f"{text}: {found}"
            with contextlib.suppress(sqlite3.OperationalError):
                found = self.sql(text)
            time.sleep(0.02)

    def until_waiting(self, count: int = 1) -> None:
        self.until("SELECT count(*) FROM liteflow_slots WHERE taken_at IS NULL", [(count,)])

    def until_running(self, count: int = 1) -> None:
        self.until("SELECT count(*) FROM liteflow_task_instances WHERE status='RUNNING'", [(count,)])

    def go(self) -> None:
        (self.path / "go").touch()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(tmp_path)
    yield made
    made.go()
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


# -- pools ---------------------------------------------------------------------------------------------------------


def test_a_task_waits_for_another_runs_slot_and_reports_it(folder: Folder) -> None:
    flow = folder.write("hold.yaml", HOLD)
    one = folder.start("run", flow, "--run-id", "one")
    folder.until_running()
    two = folder.start("run", flow, "--run-id", "two")
    folder.until_waiting()
    words = "waits for 1 slot of pool 'gpu' (1 of 1 in use: run one holds 1 (task a))"
    assert words in folder("why", "two", "a").stdout
    assert folder.json("status", "two")["tasks"][0]["reason"] == words
    (pool,) = folder.json("pools")
    assert (pool["pool"], pool["slots"], pool["used"], pool["set_by_hand"]) == ("gpu", 1, 1, False)
    assert [(one["run_id"], one["task"]) for one in pool["holders"]] == [("one", "a")]
    assert [(one["run_id"], one["task"]) for one in pool["waiting"]] == [("two", "a")]
    assert "pool 'gpu' is in use by run one" in folder("pools", "delete", "gpu").stderr
    folder.go()
    assert [one.wait(120), two.wait(120)] == [0, 0]
    assert folder.sql("SELECT count(*) FROM liteflow_slots") == [(0,)]
    assert folder("pools", "delete", "gpu").stdout.startswith("no pools yet")


def test_a_killed_owners_slots_are_free_at_once(folder: Folder) -> None:
    flow = folder.write("hold.yaml", HOLD)
    one = folder.start("run", flow, "--run-id", "one")
    folder.until_running()
    two = folder.start("run", flow, "--run-id", "two")
    folder.until_waiting()
    one.kill()
    folder.until("SELECT status FROM liteflow_task_instances WHERE run_id='two'", [("RUNNING",)])
    again = folder.start("resume", "one")
    folder.until("SELECT run_id FROM liteflow_slots WHERE taken_at IS NULL", [("one",)])
    folder.go()
    assert [two.wait(120), again.wait(120)] == [0, 0]
    assert [one["status"] for one in folder.json("status", "one")["tasks"][0]["attempts"]] == ["LOST", "SUCCESS"]


def test_a_pool_set_by_hand_pauses_and_continues(folder: Folder) -> None:
    flow = folder.write("hold.yaml", HOLD)
    folder.go()
    assert folder("pools", "set", "gpu", "0").returncode == 0
    run = folder.start("run", flow, "--run-id", "one")
    folder.until_waiting()
    assert "waits for pool 'gpu', which is paused" in folder("why", "one", "a").stdout
    assert folder("pools", "set", "gpu", "2").returncode == 0
    assert run.wait(120) == 0
    assert folder.json("pools")[0]["slots"] == 2  # the file says 1, and was declared later


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("set", "gpu", "-1"), "-1"),
        (("set", "gpu", "x"), "'x' is not a valid number of slots"),
        (("set", "g u", "1"), "pool 'g u' is not allowed"),
        (("delete", "gpux"), "there is no pool 'gpux'; did you mean 'gpu'?"),
        (("raise", "gpu"), "give nothing, or: set NAME SLOTS"),
    ],
)
def test_pools_complains_in_one_line(folder: Folder, words: tuple[str, ...], message: str) -> None:
    folder("pools", "set", "gpu", "1")
    done = folder("pools", *words)
    assert done.returncode in (2, 3)
    assert message in done.stderr


def test_a_need_above_the_size_set_by_hand_is_reported_before_anything_runs(folder: Folder) -> None:
    flow = folder.write("big.yaml", "pools: {gpu: 4}\ntasks: {a: {run: 'true', resources: {gpu: 3}}}")
    folder("pools", "set", "gpu", "2")
    done = folder("run", flow)
    assert done.returncode == 2
    assert "task 'a': needs 3 slots of pool 'gpu', which has 2" in done.stderr
    assert folder.sql("SELECT count(*) FROM liteflow_dag_runs") == [(0,)]


@pytest.mark.parametrize("mode", ["thread", "process", "async", "inline"])
def test_within_a_run_tasks_share_a_pool_in_the_order_of_their_priority(db: str, mode: str, trail: Any) -> None:
    def work(word: str) -> None:
        for text in (f"begin-{word}", f"end-{word}"):
            with open(trail.path, "a", encoding="utf-8") as file:
                file.write(f"{text}\n")

    dag = Dag("d", db, pools={"p": 1})
    for number in range(6):
        dag.task(work, f"t{number}", word=str(number), pool="p", priority=number % 3)
    assert dag.run(4, mode).status == "SUCCESS"
    order = ["2", "5", "1", "4", "0", "3"]
    assert trail.words() == [f"{word}-{one}" for one in order for word in ("begin", "end")]


def test_a_task_that_fails_gives_its_slot_back_while_it_waits_for_its_retry(db: str, trail: Any) -> None:
    def flaky() -> None:
        with open(trail.path, "a", encoding="utf-8") as file:
            file.write("flaky\n")
        if trail.words().count("flaky") == 1:
            raise ValueError("once")

    def other() -> None:
        with open(trail.path, "a", encoding="utf-8") as file:
            file.write("other\n")

    dag = Dag("d", db, pools={"p": 1})
    dag.task(flaky, retries=1, retry_delay=0.5, pool="p", priority=1)
    dag.task(other, pool="p")
    assert dag.run(mode="thread").status == "SUCCESS"
    assert trail.words() == ["flaky", "other", "flaky"]


class MostRunning(Observer):
    """Counts the instances that are stored as running at the same time."""

    def __init__(self) -> None:
        self.running, self.most = 0, 0

    def changed(self, changes: Sequence[Change]) -> None:
        instances = [change for change in changes if change.map_index >= 0]
        self.running += sum((change.status == "RUNNING") - (change.previous == "RUNNING") for change in instances)
        self.most = max(self.most, self.running)


@pytest.mark.parametrize("mode", ["thread", "process"])
@pytest.mark.parametrize(("limits", "most"), [({"pool": "p"}, 3), ({"max_parallel": 2}, 2), ({}, 8)])
def test_instances_of_a_mapped_task_use_all_of_their_limits_and_not_more_often(
    db: str, mode: str, limits: dict[str, Any], most: int, trail: Any
) -> None:
    """The first instances wait until as many run as may, so fewer at once fail by the time limit of the trail."""

    def work(number: int) -> int:
        with open(trail.path, "a", encoding="utf-8") as file:
            file.write("begin\n")
        trail.wait_for("begin", most)
        return number

    def add(numbers: list[int]) -> int:
        return sum(numbers)

    count = MostRunning()
    dag = Dag("d", db, pools={"p": 3})
    mapped = dag.partial(work, **limits).expand(number=list(range(24)))
    dag.task(add, numbers=mapped)
    run = dag.run(8, mode, observers=[count])
    assert (run.status, run.value("add")) == ("SUCCESS", sum(range(24)))
    assert (count.most, count.running) == (most, 0)
    with History(db) as history:
        assert history._rows("SELECT count(*) FROM liteflow_slots") == [(0,)]


# -- groups --------------------------------------------------------------------------------------------------------


def grouped(rule: str) -> str:
    return (
        f"workflow_name: flow\nconcurrency: {{on_conflict: {rule}}}\ntasks: {{a: {{run: '{WAIT}', kill_grace: 1}}}}\n"
    )


def test_a_second_run_waits_its_turn(folder: Folder) -> None:
    flow = folder.write("flow.yaml", grouped("queue"))
    started = [folder.start("run", flow, "--run-id", "one")]
    folder.until_running()
    for number, name in enumerate(("two", "three"), start=1):
        started.append(folder.start("run", flow, "--run-id", name))
        folder.until_waiting(number)
    assert [(one["run_id"], one["status"]) for one in folder.json("runs")] == [
        ("three", "PENDING"),
        ("two", "PENDING"),
        ("one", "RUNNING"),
    ]
    assert folder.json("status", "two")["started_at"] is None
    said = folder("why", "two", "a").stdout
    assert "the run has not started" in said
    assert "the run is PENDING: queued in group 'flow' behind run one" in said
    started[0].kill()  # its place is free, too
    folder.until("SELECT run_id FROM liteflow_dag_runs WHERE status='PENDING'", [("three",)])
    folder.go()
    assert [started[1].wait(120), started[2].wait(120)] == [0, 0]
    order = folder.sql("SELECT run_id FROM liteflow_dag_runs ORDER BY started_at")
    assert order == [("one",), ("two",), ("three",)]
    events = folder.sql(
        "SELECT previous, status FROM liteflow_events WHERE run_id='two' AND task_id IS NULL ORDER BY seq"
    )
    assert events == [(None, "PENDING"), ("PENDING", "RUNNING"), ("RUNNING", "SUCCESS")]


@pytest.mark.parametrize("how", ["SIGINT", "cancel", "kill"])
def test_a_run_that_waits_can_be_ended(folder: Folder, how: str) -> None:
    flow = folder.write("flow.yaml", grouped("queue"))
    folder.start("run", flow, "--run-id", "one")
    folder.until_running()
    two = folder.start("run", flow, "--run-id", "two")
    folder.until_waiting()
    if how == "SIGINT":
        two.send_signal(signal.SIGINT)
        assert (two.wait(120), folder.json("status", "two")["status"]) == (130, "INTERRUPTED")
    elif how == "cancel":
        assert folder("cancel", "two").returncode == 0
        assert (two.wait(120), folder.json("status", "two")["status"]) == (1, "CANCELLED")
    else:
        two.kill()
        two.wait(120)
        assert folder.json("status", "two")["status"] == "INTERRUPTED"  # the kernel says so
    assert folder.sql("SELECT status FROM liteflow_task_instances WHERE run_id='two'")[0][0] in ("PENDING", "CANCELLED")
    again = folder.start("resume", "two")
    folder.until("SELECT status, started_at FROM liteflow_dag_runs WHERE run_id='two'", [("PENDING", None)])
    folder.go()
    assert again.wait(120) == 0
    assert folder.json("status", "two")["status"] == "SUCCESS"


def test_a_run_that_is_one_too_many_is_skipped(folder: Folder) -> None:
    flow = folder.write("flow.yaml", grouped("skip"))
    first = folder.start("run", flow, "--run-id", "one")
    folder.until_running()
    done = folder("run", flow)
    assert (done.returncode, done.stdout) == (0, "» skipped  flow: run one is running in group 'flow'\n")
    told = folder.json("run", flow)
    assert (told["run_id"], told["status"], told["tasks"]) == (None, "SKIPPED", [])
    assert len(folder.json("runs")) == 1
    folder.go()
    assert first.wait(120) == 0
    assert folder.json("run", flow)["status"] == "SUCCESS"
    assert len(folder.json("runs")) == 2


def test_a_run_that_would_retry_by_itself_respects_the_running_one(folder: Folder) -> None:
    flow = folder.write("flow.yaml", grouped("skip") + "settings: {resume: auto}\n")
    one = folder.start("run", flow, "--run-id", "one")
    folder.until_running()
    assert folder.json("run", flow)["status"] == "SKIPPED"
    one.kill()
    one.wait(120)
    folder.go()
    assert folder.json("run", flow)["run_id"] == "one"


def test_a_run_that_is_one_too_many_fails(folder: Folder) -> None:
    flow = folder.write("flow.yaml", grouped("fail"))
    folder.start("run", flow, "--run-id", "one")
    folder.until_running()
    done = folder("run", flow)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == "error: run one is running in group 'flow', and on_conflict is fail: nothing was run\n"
    assert len(folder.json("runs")) == 1


def test_a_new_run_takes_the_place_of_the_one_before(folder: Folder) -> None:
    flow = folder.write("flow.yaml", grouped("cancel"))
    one = folder.start("run", flow, "--run-id", "one")
    folder.until_running()
    two = folder.start("run", flow, "--run-id", "two")
    assert one.wait(120) == 1
    told = folder.json("status", "one")
    assert (told["status"], told["reason"]) == ("CANCELLED", "run two replaces it in group 'flow'")
    folder.until("SELECT run_id FROM liteflow_task_instances WHERE status='RUNNING'", [("two",)])
    folder.go()
    assert two.wait(120) == 0


def test_runs_that_start_at_the_same_instant_run_one_after_another(db: str, trail: Any, start: Any) -> None:
    """The first to run waits until all are stored: those let in with it would by then be stored as running, too."""
    script = """
import os, sqlite3, sys, time
from liteflow import Concurrency, Dag
db, trail, go, runs = sys.argv[1:]
def say(word):
    with open(trail, "a") as file:
        file.write(f"{word}\\n")
def work():
    say("begin")
    connection = sqlite3.connect(db)
    while connection.execute("SELECT count(*) FROM liteflow_dag_runs").fetchone() != (int(runs),):
        time.sleep(0.005)
    connection.close()
    say("end")
dag = Dag("d", db, concurrency=Concurrency("g", 1, "queue"))
dag.task(work)
say("ready")
while not os.path.exists(go):
    time.sleep(0.001)
assert dag.run(mode="thread").status == "SUCCESS"
"""
    runs = 5
    go = f"{trail.path}.go"
    processes = [start(script, db, trail.path, go, str(runs)) for _ in range(runs)]
    trail.wait_for("ready", runs)
    Path(go).touch()
    for process in processes:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert trail.words() == ["ready"] * runs + ["begin", "end"] * runs
    with History(db) as history:
        changes = history._rows("SELECT status FROM liteflow_events WHERE task_id IS NULL ORDER BY seq")
    assert [status for (status,) in changes if status != "PENDING"] == ["RUNNING", "SUCCESS"] * runs


# -- the run's time --------------------------------------------------------------------------------------------------


def test_a_run_that_takes_too_long_is_ended_with_all_that_runs(folder: Folder) -> None:
    flow = folder.write(
        "slow.yaml",
        "timeout: 6s\nretry: {max: 3}\ntasks:\n"
        "  a: {run: 'trap \"\" TERM; sleep 1000 & wait', kill_grace: 0.2}\n  b: {run: 'true', depends_on: [a]}\n"
        "  quick: {run: 'true'}\n",
    )
    done = folder("run", flow)
    assert done.returncode == 124
    reported = folder.json("status")
    assert (reported["status"], reported["reason"]) == ("FAILED", "timed out after 6.00 s")
    assert {entry["task"]: entry["status"] for entry in reported["tasks"]} == {
        "a": "CANCELLED",
        "b": "CANCELLED",
        "quick": "SUCCESS",
    }
    assert "timed out after 6.00 s" in folder("why", "b").stdout


@pytest.mark.parametrize("mode", ["thread", "process", "async"])
def test_a_timeout_of_a_dag(db: str, mode: str) -> None:
    dag = Dag("d", db, timeout=0.3)
    dag.task(_sleep, "slow", kill_grace=0.1)
    run = dag.run(mode=mode)
    assert (run.status, run.timed_out, run.reason) == ("FAILED", True, "timed out after 300 ms")
    assert dag.run(mode=mode, timeout=0.2).reason == "timed out after 200 ms"


def _sleep() -> None:
    time.sleep(600)


def test_waiting_for_the_turn_does_not_use_up_the_time(folder: Folder) -> None:
    flow = folder.write("flow.yaml", grouped("queue"))
    folder.start("run", flow, "--run-id", "one")
    folder.until_running()
    quick = folder.write("quick.yaml", "concurrency: flow\ntimeout: 5s\ntasks: {a: {run: 'true'}}")
    two = folder.start("run", quick, "--run-id", "two")
    folder.until_waiting()
    row = folder.sql("SELECT started_at FROM liteflow_dag_runs WHERE run_id='two'")
    assert row == [(None,)]
    folder.go()
    assert two.wait(120) == 0


# -- the run tried again ---------------------------------------------------------------------------------------------


def flaky_dag(db: str, trail: Any, good_from: int, **limits: Any) -> Dag:
    def say(word: str) -> None:
        with open(trail.path, "a", encoding="utf-8") as file:
            file.write(f"{word}\n")

    def first() -> int:
        say("first")
        return 41

    def flaky(first: int) -> int:
        say("flaky")
        if trail.words().count("flaky") < good_from:
            raise ValueError("not yet")
        return first + 1

    dag = Dag("d", db, **limits)
    dag.task(first)
    dag.task(flaky)
    dag.task(lambda flaky: say(f"last-{flaky}"), "last")
    return dag


@pytest.mark.parametrize("mode", ["thread", "process", "async", "inline"])
def test_a_failed_run_retries_by_itself(db: str, trail: Any, mode: str) -> None:
    run = flaky_dag(db, trail, 3, retry=RetryPolicy(2, 0.05)).run(mode=mode)
    assert run.status == "SUCCESS"
    assert trail.words() == ["first", "flaky", "flaky", "flaky", "last-42"]
    with History(db) as history:
        told = [(one.previous, one.status, one.reason) for one in history.events(run.run_id) if one.task_id is None]
        assert [one.attempt for one in history.attempts(run.run_id, "flaky")] == [1, 2, 3]
    assert told == [
        (None, "RUNNING", None),
        ("RUNNING", "UP_FOR_RETRY", "it failed; try 2 of 3 starts in 0.05 s"),
        ("UP_FOR_RETRY", "RUNNING", "tried again"),
        ("RUNNING", "UP_FOR_RETRY", "it failed; try 3 of 3 starts in 0.05 s"),
        ("UP_FOR_RETRY", "RUNNING", "tried again"),
        ("RUNNING", "SUCCESS", None),
    ]


def test_a_run_is_tried_so_often_and_not_more_often(db: str, trail: Any) -> None:
    dag = flaky_dag(db, trail, 99, retry=RetryPolicy(2))
    run = dag.run(mode="inline", fail_fast=True)
    assert run.status == "FAILED"
    assert trail.words().count("flaky") == 3
    assert dag.resume(mode="inline").status == "FAILED"  # after its end, a resume has all of them again
    assert trail.words().count("flaky") == 6


def test_retries_of_tasks_come_first(db: str, trail: Any) -> None:
    dag = flaky_dag(db, trail, 4, retry=RetryPolicy(1))
    dag.tasks["flaky"].options = make_options({"retries": 1}, "flaky")
    assert dag.run(mode="inline").status == "SUCCESS"
    assert trail.words() == ["first", "flaky", "flaky", "flaky", "flaky", "last-42"]


def test_of_a_mapped_task_only_the_instances_that_failed_run_again(db: str, trail: Any) -> None:
    def work(number: int) -> int:
        with open(trail.path, "a", encoding="utf-8") as file:
            file.write(f"n{number}\n")
        if number == 2 and trail.words().count("n2") == 1:
            raise ValueError("once")
        return number

    def add(numbers: list[int]) -> int:
        return sum(numbers)

    dag = Dag("d", db, retry=RetryPolicy(1))
    dag.task(add, numbers=dag.partial(work).expand(number=[0, 1, 2, 3]))
    run = dag.run(mode="inline")
    assert (run.status, run.value("add")) == ("SUCCESS", 6)
    assert sorted(trail.words()) == ["n0", "n1", "n2", "n2", "n3"]


def test_killed_during_its_back_off_it_continues_with_the_tries_that_are_left(folder: Folder) -> None:
    flow = folder.write(
        "flow.yaml",
        "retry: {max: 2, delay: 1000s}\ntasks: {ok: {run: echo ok >> trail}, a: {run: 'echo a >> trail; false'}}",
    )
    resting = [("UP_FOR_RETRY", "it failed; try 2 of 3 starts in 1e+03 s")]
    run = folder.start("run", flow, "--run-id", "one")
    folder.until("SELECT status, reason FROM liteflow_dag_runs", resting)
    assert "the run is RUNNING: it failed; try 2 of 3" in folder("why", "one", "a").stdout
    run.kill()
    run.wait(120)
    again = folder.start("resume", "one")
    folder.until("SELECT reason FROM liteflow_dag_runs", [("it failed; try 3 of 3 starts in 1e+03 s",)])
    again.send_signal(signal.SIGINT)
    assert again.wait(120) == 130
    assert folder("resume", "one").returncode == 1  # no try is left
    trail = (folder.path / "trail").read_text().split()
    assert (trail.count("ok"), trail.count("a")) == (1, 3)


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_a_run_that_rests_can_be_ended(folder: Folder, how: str) -> None:
    more = "timeout: 1s\n" if how == "timeout" else ""
    flow = folder.write("flow.yaml", f"{more}retry: {{max: 2, delay: 1000s}}\ntasks: {{a: {{run: 'false'}}}}")
    run = folder.start("run", flow, "--run-id", "one")
    if how == "cancel":
        folder.until("SELECT count(*) FROM liteflow_events WHERE status='UP_FOR_RETRY'", [(1,)])
        assert folder("cancel", "one").returncode == 0
    assert run.wait(120) == (1 if how == "cancel" else 124)
    assert DagRun.load(f"{folder.path}/lightflow.db", "one").status == ("CANCELLED" if how == "cancel" else "FAILED")


# -- what is told before ---------------------------------------------------------------------------------------------


def test_dry_run_reports_limits_of_files_and_scripts(folder: Folder) -> None:
    yaml = folder.write(
        "flow.yaml",
        "workflow_name: flow\npools: {gpu: 2}\ntimeout: 1m\nretry: {max: 1}\n"
        "concurrency: {limit: 3, on_conflict: skip}\n"
        "tasks: {a: {run: 'true', pool: gpu, priority: 4, max_parallel: 2}}\n",
    )
    script = folder.write(
        "flow.py",
        "from liteflow import *\ndef a(): pass\n"
        "dag = Dag('flow', pools={'gpu': 2}, timeout=60, retry=RetryPolicy(1), "
        "concurrency=Concurrency(None, 3, 'skip'))\n"
        "dag.task(a, pool='gpu', priority=4, max_parallel=2)\n",
    )
    for file in (yaml, script):
        told = folder.json("run", file, "--dry-run")
        assert told["pools"] == {"gpu": 2}
        assert (told["timeout_s"], told["retries"]) == (60.0, 1)
        assert told["concurrency"] == {"group": "flow", "limit": 3, "on_conflict": "skip"}
        (((task,),),) = [told["levels"]]
        assert (task["priority"], task["max_parallel"], task["resources"]) == (4, 2, {"gpu": 1})
        words = folder("run", file, "--dry-run").stdout
        assert "pools: gpu 2" in words
        assert "the run: timeout 1 min 00 s, retried up to 1 time if it fails" in words
        assert "at most 3 runs of group flow at once, else skip" in words
        assert "priority 4, at most 2 at once, 1 gpu" in words
