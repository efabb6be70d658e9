"""Machines whose clocks are wrong, or are set while a task runs: times in the state file are those of the owner."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest
from clock_kit import SteppedClock
from far_kit import AGENT, cluster_of

from liteflow import Dag, DagRun
from liteflow.state.history import AttemptRecord, History

HOUR_S = 3600.0
SLEEP_S = 0.4
CHAIN = ("behind", "process", "ahead") * 4


class Machine:
    """A machine with a clock of its own: the processes of its agents have it."""

    def __init__(self, folder: Path, offset_s: float) -> None:
        folder.mkdir()
        self.clock = SteppedClock(folder)
        self.clock.step(offset_s)
        self.cluster = cluster_of({folder.name: 1}, ("env", f"PYTHONPATH={self.clock.path}", *AGENT))


def look_at_the_clock() -> float:
    time.sleep(SLEEP_S)
    return time.time()


def run_chain(dag: Dag, folder: Path) -> tuple[DagRun, list[AttemptRecord]]:
    """Run a chain, and return its attempts in their order: none begins before the one before it has ended."""
    before = time.time()
    run = dag.run(log_dir=str(folder / "logs")).raise_for_failure()
    after = time.time()
    with History(dag.db_path) as history:
        attempts = sorted(history.attempts(run.run_id), key=lambda attempt: attempt.task_id)
    moments = [before]
    for attempt in attempts:
        assert attempt.started_at is not None
        assert attempt.ended_at is not None
        moments += [attempt.started_at, attempt.ended_at]
    moments.append(after)
    assert moments == sorted(moments)
    return run, attempts


def test_a_chain_over_machines_whose_clocks_are_an_hour_wrong_is_stored_in_order(
    tmp_path: Path, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    machines = {"behind": Machine(tmp_path / "behind", -HOUR_S), "ahead": Machine(tmp_path / "ahead", HOUR_S)}
    dag = Dag("flow", db, clusters={name: machine.cluster for name, machine in machines.items()})
    tasks = [dag.task(look_at_the_clock, f"t{number:02}", mode=mode) for number, mode in enumerate(CHAIN)]
    for first, second in pairwise(tasks):
        first >> second
    run, attempts = run_chain(dag, tmp_path)
    offsets_s, durations_s = dict.fromkeys(CHAIN, 0.0), dict.fromkeys(CHAIN, 0.0)
    for attempt, mode in zip(attempts, CHAIN, strict=True):
        assert attempt.started_at is not None
        assert attempt.ended_at is not None
        offsets_s[mode] = run.value(attempt.task_id) - attempt.ended_at
        durations_s[mode] += attempt.ended_at - attempt.started_at
    assert offsets_s["behind"] < -HOUR_S / 2 < offsets_s["process"] < HOUR_S / 2 < offsets_s["ahead"]
    # The offset of a clock is exact to half of the way of a beat.
    assert min(durations_s.values()) >= SLEEP_S * CHAIN.count("behind") / 2, "durations are those of the machine"


@pytest.mark.parametrize("step_s", [-HOUR_S, HOUR_S])
def test_a_clock_that_is_set_while_a_task_runs_leaves_the_order(
    tmp_path: Path, db: str, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    monkeypatch.chdir(tmp_path)
    machine = Machine(tmp_path / "w1", 0.0)

    def set_the_clock() -> float:
        before = time.time()
        machine.clock.step(step_s)
        return time.time() - before

    dag = Dag("flow", db, clusters={"lab": machine.cluster})
    tasks = [dag.task(set_the_clock, "t0", mode="lab")]
    tasks += [dag.task(look_at_the_clock, f"t{number}", mode=mode) for number, mode in enumerate(("lab", "process"), 1)]
    for first, second in pairwise(tasks):
        first >> second
    run, _ = run_chain(dag, tmp_path)
    assert run.value("t0") == pytest.approx(step_s, abs=HOUR_S / 2)
