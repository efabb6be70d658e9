"""R30: no program of a Python task in an environment of its own outlives its attempt, whoever is killed.

Proved: `kill -9` of the orchestrator, of the workers, of the guardian, and of orchestrator and guardian at the same
instant, at moments from the start of a run until its two programs have run for a while, so while uv builds their
environment, too. A resume follows: afterwards neither uv nor a program of the run is left, no two attempts of a task
have run at the same time, the environment is complete, and the run has succeeded. Not proved: what a program does that
leaves its processes behind on another machine.

    CI=true pytest tests/crash/test_r30_programs.py --crash-scale 10      # 20 moments each
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from outside import VICTIMS, Outside, Trial, check_nothing_left, seconds_until, status_in

FLOW = """
workflow_name: killed
x-task: &task {type: python, environment: {}}
tasks:
  code:
    <<: *task
    run: exec(open("../program.py").read())
  file: {<<: *task, file: ../program.py}
"""
PROGRAM = """
import fcntl, os, time
lock = open(os.environ["LIGHTFLOW_TASK"] + ".lock", "a")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    open("../overlap", "a").close()
if not os.path.exists("../killed"):
    time.sleep(600)
"""


class Programs(Outside):
    """The processes of the environments of a run: uv while it builds them, and the programs."""

    flow = FLOW
    complete = 2
    resumed = VICTIMS

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "program.py").write_text(PROGRAM)

    def processes(self) -> list[int]:
        """Return the processes whose arguments name an environment of a run."""
        place, pids = os.fsencode(f"{self._folder}/"), []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                arguments = (entry / "cmdline").read_bytes()
                if place in arguments and b"/.lightflow/envs/" in arguments:
                    pids.append(int(entry.name))
        return pids

    def count(self) -> int:
        return len(self.processes())

    def after_kill(self, workers: Sequence[int]) -> None:
        (self._folder / "killed").touch()

    def clean(self) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert seconds_until(lambda: self.count() == 0) is not None
        for name in ("killed", "overlap"):
            (self._folder / name).unlink(missing_ok=True)

    def surplus(self, db: Path) -> int:
        """Return whether attempts overlapped, half an environment is there, or the run did not succeed."""
        building = list((db.parent / ".lightflow" / "envs").glob("*.building"))
        return (self._folder / "overlap").exists() + len(building) + (status_in(db) not in (None, "SUCCESS"))


@pytest.mark.slow
@pytest.mark.timeout(100_000)
def test_r30_no_program_is_left(tmp_path: Path, figure: Callable[..., str], scaled: Callable[[int], int]) -> None:
    check_nothing_left("R30", Programs(tmp_path), tmp_path, figure, scaled)


@pytest.mark.timeout(600)
def test_r30_control(tmp_path: Path, figure: Callable[..., str]) -> None:
    """Without a guardian and without a resume, the programs go on."""
    left = Trial(Programs(tmp_path), tmp_path).run("both", 1.0, resumes=False, stays_s=0.5).left
    figure("R30-control", left=left)
    assert left > 1
