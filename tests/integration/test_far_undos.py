"""The undo of an attempt on another machine: whatever ends the attempt, what it started there is ended there.

The agents are on this machine. What an attempt starts outside of its process tree is a file in `things`.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from far_kit import cluster_of
from test_far import agents_in

from liteflow import Call, Command, Dag, DagRun, current_context
from liteflow.processes import tree
from liteflow.state.history import History

LIMIT_S = 60.0


def begin(folder: str, how: str) -> str:
    """Start a thing, and end it by itself only if the attempt comes to its end."""
    context = current_context()
    thing = os.path.join(folder, "things", context.mark)
    with closing(sqlite3.connect(context.db_path)) as connection:
        row = "SELECT host FROM liteflow_undos WHERE task_id=? AND attempt=?"
        (host,) = connection.execute(row, (context.task_id, context.attempt)).fetchone()
    assert host == context.host, "the machine is stored before the attempt starts"
    with open(thing, "x") as file:
        file.write(context.host or "")
    if how == "fail":
        raise ValueError("no")
    if how == "wait" and context.attempt == 1:
        with open(os.path.join(folder, "pids"), "a") as file:
            file.write(f"{os.getpid()}\n")
        signal.pause()
    os.unlink(thing)
    return context.mark


def end(folder: str, how: str) -> None:
    context = current_context()
    with open(os.path.join(folder, "undone"), "a") as file:
        file.write(f"{context.attempt} {context.host} {how}\n")
    if how == "refuse":
        raise ConnectionError("no")
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, "things", context.mark))


class Bench:
    """Dags with one task on a cluster, and the processes of its agents."""

    def __init__(self, folder: Path, db: str) -> None:
        self.folder = folder
        self.db = db
        self.agents_folder = tempfile.mkdtemp(prefix="far-", dir="/tmp")
        (folder / "things").mkdir()

    def dag(self, how: str, undo: str = "", **options: object) -> Dag:
        cluster = cluster_of({"w1": 1}, lease_s=options.pop("lease_s", 15.0))
        dag = Dag("flow", self.db, clusters={"lab": cluster})
        arguments = {"folder": str(self.folder)}
        body = Call(begin, {**arguments, "how": how}, undo=Call(end, {**arguments, "how": undo}))
        dag.add("job", body, mode="lab", **options)  # type: ignore[arg-type]
        return dag

    def run(self, dag: Dag) -> DagRun:
        return dag.run(log_dir=str(self.folder / "logs"), raise_signals=False)

    def run_amid(self, dag: Dag, act: Callable[[int], None]) -> DagRun:
        """Run a dag; call `act` with the process of its first attempt."""

        def wait_and_act() -> None:
            act(self.worker())

        thread = threading.Thread(target=wait_and_act)
        thread.start()
        try:
            return self.run(dag)
        finally:
            thread.join()

    def worker(self) -> int:
        pids = self.folder / "pids"
        self.until(lambda: pids.exists() and pids.read_text().endswith("\n"))
        return int(pids.read_text().split()[0])

    def until(self, condition: Callable[[], bool]) -> None:
        give_up = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < give_up
            time.sleep(0.01)

    def agents(self) -> list[tuple[int, int]]:
        return agents_in(self.agents_folder)

    def things(self) -> list[str]:
        return os.listdir(self.folder / "things")

    def undone(self) -> list[str]:
        path = self.folder / "undone"
        return path.read_text().splitlines() if path.exists() else []

    def due(self) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.db)) as connection:
            return connection.execute("SELECT attempt, host, problem FROM liteflow_undos").fetchall()

    def verdicts(self, run_id: str) -> list[str]:
        with History(self.db) as history:
            return [attempt.status for attempt in history.attempts(run_id)]


@pytest.fixture
def bench(tmp_path: Path, db: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path, db)
    monkeypatch.setenv("TMPDIR", made.agents_folder)
    monkeypatch.chdir(tmp_path)
    yield made
    made.until(lambda: made.agents() == [])
    os.rmdir(made.agents_folder)  # the folders of agents are removed


def kill(*pids: int) -> None:
    """Kill processes at one instant: none of them sees another one ended."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)


def guardian_of(worker: int) -> int:
    row = tree.process(worker)
    assert row is not None
    return row.parent


def test_a_success_is_not_undone(bench: Bench) -> None:
    assert bench.run(bench.dag("succeed")).raise_for_failure()
    assert (bench.undone(), bench.due(), bench.things()) == ([], [], [])


def test_each_failed_attempt_is_undone_on_its_machine(bench: Bench) -> None:
    assert bench.run(bench.dag("fail", retries=1)).failures()
    assert bench.undone() == ["1 w1 ", "2 w1 "]
    assert (bench.due(), bench.things()) == ([], [])


def test_a_timeout_is_undone(bench: Bench) -> None:
    assert bench.run(bench.dag("wait", timeout=1.0)).failures()
    assert bench.undone() == ["1 w1 "]
    assert (bench.due(), bench.things()) == ([], [])


def test_a_command_is_undone_with_its_values(bench: Bench) -> None:
    dag = Dag("flow", bench.db, clusters={"lab": cluster_of({"w1": 1})})
    script = f"touch {bench.folder}/things/$LIGHTFLOW_ATTEMPT; exit 3"
    undo = Call(end, {"folder": str(bench.folder), "how": "of a command"})
    dag.add("job", Command(("/bin/sh", "-c", script), undo=undo), mode="lab")
    assert bench.run(dag).failures()
    assert bench.undone() == ["1 w1 of a command"]
    assert bench.due() == []


def test_an_undo_that_fails_stays_due_with_its_machine(bench: Bench) -> None:
    run = bench.run(bench.dag("fail", "refuse"))
    assert run.failures()
    assert bench.due() == [(1, "w1", "ConnectionError: no")]
    dag = bench.dag("succeed")
    resumed = dag.resume(run.run_id, log_dir=str(bench.folder / "logs"))
    assert resumed.raise_for_failure()
    assert bench.undone() == ["1 w1 refuse", "1 w1 "], "the resume has it done by an agent on that machine"
    assert (bench.due(), bench.things()) == ([], [])


@pytest.mark.parametrize("part", ["worker", "guardian", "agent", "keeper"])
def test_the_death_of_a_part_is_undone(bench: Bench, part: str) -> None:
    def act(worker: int) -> None:
        [(keeper, agent)] = bench.agents()
        kill({"worker": worker, "guardian": guardian_of(worker), "agent": agent, "keeper": keeper}[part])

    run = bench.run_amid(bench.dag("wait", retries=1), act)
    assert run.raise_for_failure()
    assert bench.verdicts(run.run_id) == ["FAILED" if part == "worker" else "LOST", "SUCCESS"]
    assert {line.split()[0] for line in bench.undone()} == {"1"}
    assert (bench.due(), bench.things()) == ([], [])


def test_agent_and_guardian_are_killed_and_the_next_agent_there_does_the_undo(bench: Bench) -> None:
    def act(worker: int) -> None:
        [(_, agent)] = bench.agents()
        kill(guardian_of(worker), agent)

    run = bench.run_amid(bench.dag("wait", lease_s=5.0), act)
    assert run.raise_for_failure()
    assert bench.verdicts(run.run_id) == ["LOST", "SUCCESS"]
    assert bench.undone() == ["1 w1 "]
    assert (bench.due(), bench.things()) == ([], [])
