"""Harness of R2: a run is killed at the entry of its Nth write, sync, truncate, rename or unlink, for every N.

    python tests/crash/boundaries.py FOLDER --points 40 --seed 7 [--shard 0/2] [--only run/inline/plain]

strace counts each kind of call by itself and per process, so a point is (call, N). The points of a scenario are
recorded first. A kill at the entry means that the call itself has not happened: between two neighbouring points lies
exactly one change of the disk.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import boundary_run
from boundary_run import AGAIN, GRAPH, RUN, flow_of
from crashkit import Oracle, as_harness, await_none, descendants, fork, lines, read_state, report, wait_for
from kill import CONTROLS, step_after

from liteflow.errors import ForeignDatabase, RunNotFound
from liteflow.state.history import History

CALLS = "pwrite64,fdatasync,fsync,ftruncate,rename,unlink"
#: what is killed: a run from nothing, a resume of a half-done run, a retry of a part of one that has ended, a run with
#: checkpoints, one with its guardian, and one with child runs
SCENARIOS = (
    "run/inline/plain",
    "resume/inline/plain",
    "retry/inline/plain",
    "run/inline/checkpoints",
    "run/process/plain",
    "run/inline/child",
)
_PR_SET_PTRACER = 0x59616D61  # lets a process that is no ancestor attach, where the kernel asks
Point = tuple[str, str, int]  # scenario, call, N


def traced(folder: str, scenario: str, *options: str, control: str | None = None) -> int | None:
    """Run a scenario in a warm fork with strace attached; its exit code, -9 when it was killed."""

    def child() -> None:
        what, mode, variant = scenario.split("/")
        if control is not None:
            CONTROLS[control]()
            variant = "power"  # this control cannot change how commits are synced
        assert boundary_run.execute(folder, what, mode, variant) == "SUCCESS"

    return traced_fork(child, f"{folder}/errors", *options)


def traced_fork(work: Callable[[], None], errors_path: str, *options: str) -> int | None:
    """Do the work in a fork with strace attached; its exit code, -9 when it was killed."""
    go_read, go_write = os.pipe()

    def child() -> None:
        with open(errors_path, "ab") as errors:
            os.dup2(errors.fileno(), 1)
            os.dup2(errors.fileno(), 2)
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, -1, 0, 0, 0)
        os.close(go_write)
        os.read(go_read, 1)  # until strace is there
        work()

    pid = fork(child)
    os.close(go_read)
    words = ["strace", "-f", "-qqq", "-p", str(pid), *options]
    tracer = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    code = None
    try:
        give_up = time.monotonic() + 60
        while "\nTracerPid:\t0\n" in status_of(pid):
            assert time.monotonic() < give_up, "strace cannot attach: is ptrace allowed here?"
            time.sleep(0.001)
        os.close(go_write)
        code = wait_for(pid)
    finally:
        if code is None:
            os.kill(pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
        try:
            tracer.wait(timeout=60)
        finally:
            tracer.kill()
            tracer.wait()
    return code


def status_of(pid: int) -> str:
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        return file.read()


def half_done(folder: str) -> None:
    """Make the state that a resume begins from: a run killed in its middle."""

    def child() -> None:
        read, write = os.pipe()
        killer = os.fork()
        if killer == 0:
            os.close(write)
            while sum(word.startswith("SUCCESS") for word in lines(f"{folder}/acknowledged")) < 3:
                time.sleep(0.0005)
            os.kill(os.getppid(), 9)
            os._exit(0)
        os.close(read)
        boundary_run.execute(folder, "run", "inline", "plain")

    code = wait_for(fork(child))
    assert code in (-9, 0), code


def ended(folder: str) -> None:
    """Make the state that a retry begins from: a run that has ended."""
    code = wait_for(fork(lambda: boundary_run.execute(folder, "run", "inline", "plain")))
    assert code == 0, code


def prepare(folder: str, scenario: str, template: str) -> None:
    what = scenario.split("/")[0]
    if what != "run":
        shutil.copytree(f"{template}/{what}", folder)
    else:
        os.mkdir(folder)


def record(folder: str, scenario: str, template: str) -> list[Point]:
    """Count the calls of a clean run; per call, the most that one process made."""
    prepare(folder, scenario, template)
    trace = f"{folder}/trace"
    code = traced(folder, scenario, "-o", trace, "-e", f"trace={CALLS}")
    assert code == 0, f"the clean run failed: {code} {lines(f'{folder}/errors')[-5:]}"
    points = [(scenario, call, number) for call, number in counted_calls(trace)]
    shutil.rmtree(folder)
    return points


def counted_calls(trace: str) -> list[tuple[str, int]]:
    """Return each call of a trace with its numbers from 1 to the most that one process made."""
    counts: Counter[tuple[str, str]] = Counter()
    for line in lines(trace):
        match = re.match(r"(\d+) +(\w+)\(", line)
        if match:
            counts[match[1], match[2]] += 1
    most: dict[str, int] = {}
    for (_, call), count in counts.items():
        most[call] = max(most.get(call, 0), count)
    return [(call, number) for call, count in sorted(most.items()) for number in range(1, count + 1)]


def calls_of(
    work: Callable[[], None], calls: str, limit: int, chance: random.Random
) -> tuple[list[tuple[str, int]], int]:
    """Trace work in this folder; return calls at which to kill it, `limit` of them (0: all), and how many there are."""
    assert traced_fork(work, "errors", "-o", "trace", "-e", f"trace={calls}") == 0, lines("errors")[-5:]
    points = counted_calls("trace")
    total = len(points)
    return sorted(chance.sample(points, min(total, limit)) if limit else points), total


def kill_at(work: Callable[[], None], call: str, number: int) -> int | None:
    """Kill work in this folder at a call; return its exit code, -9 where it made that call."""
    return traced_fork(work, "errors", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}")


def until_killed(strike: Callable[[str, int], int | None], call: str, number: int) -> None:
    """Strike at a call of a kind; where the work does not make as many this time, at earlier ones until it is killed.

    How many there are depends on time, too: what happens at once is stored at once.
    """
    while strike(call, number) != -signal.SIGKILL and number > 1:
        number = number * 3 // 4


def quietly(folder: str, work: Callable[[], None]) -> Callable[[], None]:
    """The same work, its complaints in a file."""

    def quiet() -> None:
        with open(f"{folder}/errors", "ab") as errors:
            os.dup2(errors.fileno(), 1)
            os.dup2(errors.fileno(), 2)
        work()

    return quiet


def strike(
    folder: str, point: Point, template: str, found: Counter[str], notes: list[str], control: str | None
) -> int | None:
    """Kill at one point, look, go on without kills, look again. Returns how the run ended, -9 when it was killed."""
    scenario, call, number = point
    prepare(folder, scenario, template)
    what, _, variant = scenario.split("/")
    flow, again = flow_of(variant), what == "retry"
    oracle = Oracle(f"{folder}/state.db", RUN, f"{folder}/effects", flow.instances, flow.around)
    if what != "run":
        before = oracle.check(lines(f"{folder}/acknowledged"), whole=again)
    if again:
        oracle.run_again(flow.again(AGAIN), before)
    struck = traced(
        folder, scenario, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}", control=control
    )
    found["kills" if struck == -9 else "missed"] += 1
    _, left = await_none(descendants)
    found["survivors"] += len(left)
    state = oracle.check(lines(f"{folder}/acknowledged"))

    def look() -> None:
        """What `lightflow run` and `status` do first."""
        with contextlib.suppress(ForeignDatabase, RunNotFound), History(f"{folder}/state.db") as history:
            found = {entry.task_id for entry in history.instances(history.run(RUN).run_id)}
            assert found >= GRAPH.keys()

    def finish() -> None:
        step = step_after(state, again=again)
        if step == "resume" and read_state(f"{folder}/state.db", RUN).run == "SUCCESS":
            return
        status = boundary_run.execute(folder, step, "inline", "child" if variant == "child" else "plain")
        assert status == "SUCCESS", status

    if os.path.exists(f"{folder}/state.db") and wait_for(fork(quietly(folder, look))) != 0:
        found["unreadable"] += 1
        notes.append(f"{point}: cannot be read: {lines(f'{folder}/errors')[-1:]}")
    code = wait_for(fork(quietly(folder, finish)))
    if code != 0:
        found["crashed"] += 1
        notes.append(f"{point}: the next start ended {code}: {lines(f'{folder}/errors')[-4:]}")
    else:
        oracle.check(lines(f"{folder}/acknowledged"), whole=True)
    found.update(oracle.counts)
    notes += [f"{point}: {note}" for note in oracle.notes]
    shutil.rmtree(folder)
    return struck


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument(
        "--points", type=int, default=0, help="how many: all but the page writes, and a sample of those; 0: all"
    )
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--shard", default="0/1")
    parser.add_argument("--control", choices=sorted(CONTROLS))
    parser.add_argument("--only", choices=SCENARIOS)
    given = parser.parse_args()
    began = time.monotonic()
    found: Counter[str] = Counter()
    notes: list[str] = []
    shard, shards = map(int, given.shard.split("/"))
    with as_harness(limit_s=3600):
        template = f"{given.folder}/template"
        for what, make in (("resume", half_done), ("retry", ended)):
            os.makedirs(f"{template}/{what}")
            make(f"{template}/{what}")
        wanted = (given.only,) if given.only else SCENARIOS
        points = [point for entry in wanted for point in record(f"{given.folder}/clean", entry, template)]
        total = len(points)
        if given.points and given.points < total:
            rare = [point for point in points if point[1] != "pwrite64"]
            rest = [point for point in points if point[1] == "pwrite64"]
            some = random.Random(given.seed // 1000).sample(rest, min(len(rest), max(0, given.points - len(rare))))
            points = sorted(rare + some)
        for place, (scenario, call, number) in enumerate(points):
            if place % shards == shard:

                def at(call: str, number: int, place: int = place, scenario: str = scenario) -> int | None:
                    point = (scenario, call, number)
                    return strike(f"{given.folder}/{place}", point, template, found, notes, given.control)

                until_killed(at, call, number)
    fields: dict[str, Any] = {
        kind: found[kind] for kind in (*Oracle.KINDS, "kills", "missed", "crashed", "unreadable", "survivors")
    }
    report(**fields, worst_of=total, notes=notes[:40], worst_seconds=time.monotonic() - began)


if __name__ == "__main__":
    main()
