"""R4: a power cut at any moment of a run.

Proved, by replaying the recorded writes of real runs (see `power` for the model of the disk): the state file opens and
is whole, what it tells is a prefix of what happened, no task is recorded as succeeded without what it waits for, and

* with `durability="power"` no acknowledged success is lost;
* by default only such are lost as were acknowledged within about the last second;
* of a run that has said that it ended, nothing is lost.

Not proved: disks that report a write as done which is not, file systems that lose names, and the log files of tasks,
which are not synced at all.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import power
import pytest
from lines import Figure, replay, scale, seed

from liteflow import Dag

#: The longest time by which a commit may come late on an idle machine: its own duration and the pause since the one
#: before it.
_SLACK_S = 0.6


def longest_loss(trace: power.Trace) -> float:
    """Return how long before a power cut a commit may have been acknowledged that is lost, on the machine as it was.

    Between a commit and the sync after it some threads are woken, each as late as the machine is busy.
    """
    return 1.0 + _SLACK_S + 3 * trace.late_s


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder whose disk is memory: images are many, and nothing here depends on a real disk."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="lightflow-r4-", dir=base) as folder:
        yield Path(folder)


def _count(figure: Figure, verdict: power.Verdict) -> None:
    figure.add("states")
    figure.add("corrupt", bool(verdict.corrupt))
    figure.add("disorder", bool(verdict.disorder))


def test_power_cuts(tmp_path: Path, memory: Path, request: pytest.FixtureRequest) -> None:
    """5,000 power cuts in the quick form: 2,000 of `power`, 3,000 of the default."""
    config = request.config
    chance, figure = random.Random(seed(config)), Figure("R4", request)
    figure.counts |= {"states": 0, "corrupt": 0, "disorder": 0, "lost_power": 0, "lost_process": 0}
    longest = 0.0
    for durability, count, pause in (("power", 2000, 0.0), ("process", 3000, 0.12)):
        trace = power.record(tmp_path / durability, durability=durability, tasks=64, pause=pause)
        for point, verdict in power.crashes(trace, round(count * scale(config)), chance, memory):
            _count(figure, verdict)
            again = replay(request)
            assert not verdict.corrupt, f"{durability}, after call {point}: {verdict.corrupt}; {again}"
            assert not verdict.disorder, f"{durability}, after call {point}: {verdict.disorder}; {again}"
            if durability == "power":
                figure.add("lost_power", verdict.lost)
                assert not verdict.lost, f"after call {point}: {verdict.lost} lost; {again}"
            else:
                figure.counts["lost_process"] = max(figure.counts["lost_process"], verdict.lost)
                longest = max(longest, verdict.lost_for_s)
    figure.tell(lost_process_max_s=round(longest, 2))
    assert 0 < longest <= longest_loss(trace), replay(request)  # none lost at all: then the model would be too kind


def test_control_without_syncs_the_file_is_damaged(
    tmp_path: Path, memory: Path, request: pytest.FixtureRequest
) -> None:
    """The negative control: with `synchronous=OFF` the same cuts must show damage, else they prove nothing."""
    config = request.config
    chance, figure = random.Random(seed(config)), Figure("R4-control", request)
    trace = power.record(tmp_path / "off", sync="off", tasks=64)
    for _, verdict in power.crashes(trace, round(800 * scale(config)), chance, memory):
        _count(figure, verdict)
    figure.tell(synchronous="off")
    assert figure.counts["corrupt"] > 0


def test_a_run_continues_after_a_power_cut(tmp_path: Path, memory: Path, request: pytest.FixtureRequest) -> None:
    """Resumed from the image of a power cut, the run ends well, and runs again only what the image does not know."""
    config = request.config
    chance, figure = random.Random(seed(config)), Figure("R4-resume", request)
    trace = power.record(tmp_path / "run", durability="power", tasks=24)
    ran: list[str] = []
    disk = power.Disk()
    chosen = set(chance.sample(range(len(trace.calls) // 3, len(trace.calls)), round(15 * scale(config))))
    for number, call in enumerate(trace.calls):
        if call.kind != "ack":
            disk.do(call)
        if number not in chosen:
            continue
        power.write_image(disk.image(chance), memory)
        with Dag("flow", str(memory / "state.db")) as dag:
            made = []
            for task in range(24):
                made.append(dag.task(lambda name=f"t{task}": ran.append(name), task_id=f"t{task}"))
                for above in {task - 3, task - 4} - {-1, -2, -3, -4}:
                    made[above] >> made[task]
        known = {
            str(event[2])
            for event in power._read(memory / "state.db")
            if event[6] == "SUCCESS" and event[2] is not None
        }
        ran.clear()
        run = dag.resume("run", mode="inline") if power._read(memory / "state.db") else dag.run(mode="inline")
        assert run.status == "SUCCESS", replay(request)
        assert set(ran) == {f"t{task}" for task in range(24)} - known, replay(request)
        assert len(ran) == len(set(ran))
        figure.add("resumed")
    figure.tell(rerun=0)
    assert figure.counts["resumed"] == len(chosen)


def test_the_last_second_of_a_run_that_waits(tmp_path: Path, memory: Path, request: pytest.FixtureRequest) -> None:
    """What was acknowledged a second ago is synced also when nothing is committed after it, for want of news."""
    chance, figure = random.Random(seed(request.config)), Figure("R4-idle", request)
    trace = power.record(tmp_path / "run", tasks=12, idle=4.0)
    longest = 0.0
    for _, verdict in power.crashes(trace, 400, chance, memory):
        _count(figure, verdict)
        longest = max(longest, verdict.lost_for_s)
    figure.tell(lost_process_max_s=round(longest, 2))
    assert figure.counts["corrupt"] == figure.counts["disorder"] == 0
    assert longest <= longest_loss(trace), replay(request)


def test_nothing_is_lost_of_a_run_that_reported_its_end(
    tmp_path: Path, memory: Path, request: pytest.FixtureRequest
) -> None:
    """The verdict of a run is synced before anybody is told of it, also by default."""
    config = request.config
    chance, figure = random.Random(seed(config)), Figure("R4-end", request)
    figure.counts |= {"states": 0, "lost": 0}
    for number in range(3):
        trace = power.record(tmp_path / f"run{number}", tasks=12)
        disk, ended = power.Disk(), False
        for call in trace.calls:
            ended = ended or (call.kind == "ack" and call.data == power.END)
            if call.kind != "ack":
                disk.do(call)
            for _ in range(round(20 * scale(config)) if ended else 0):
                power.write_image(disk.image(chance), memory)
                figure.add("states")
                figure.add("lost", power._read(memory / "state.db") != trace.events)
    figure.tell()
    assert figure.counts["states"] >= 100
    assert figure.counts["lost"] == 0, replay(request)
