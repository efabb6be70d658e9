"""R21: no container of ours outlives its attempt, whoever is killed.

Proved, with docker and with podman: `kill -9` of the orchestrator, of the client of the engine, of the guardian, and of
orchestrator and guardian at the same instant, at moments from the start of a run until its container has run for a
while: afterwards no container carries our label, and no file of a secret is left in memory; in the last case from the
next resume on. Not proved: an engine that does not answer while the undo has its time; `lightflow doctor` lists those.

    CI=true pytest tests/crash/test_r21_containers.py --crash-scale 10      # 20 moments each, with each engine
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import container_kit
import pytest
from container_kit import SHELL_IMAGE, Engine
from crashkit import ROOT

VICTIMS = ("orchestrator", "client", "guardian", "both")
MOMENTS = 2  # for each victim
FLOW = """
workflow_name: killed
secrets: [TOKEN]
tasks:
  work:
    secrets: [TOKEN]
    run: while ! test -e go; do sleep 0.05; done
    container: {image: IMAGE, engine: ENGINE}
"""
#: A program without undos, which shows that the test sees what is left.
WITHOUT_UNDO = """
import lightflow.plugins.container_task as container_task

def undo_container(keys, environment):
    pass

container_task.undo_container = undo_container
from lightflow.start import main
main()
"""
LIMIT_S = 120.0


@pytest.fixture(scope="module", params=["docker", "podman"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with getattr(container_kit, request.param)() as started:
        yield started


@pytest.mark.slow
@pytest.mark.timeout(100_000)
def test_r21_no_container_is_left(
    engine: Engine, tmp_path: Path, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    moments, left, running = scaled(MOMENTS), 0, 0
    trial = Trial(engine, tmp_path)
    ready_s = trial.measure()
    for victim in VICTIMS:
        for number in range(moments):
            delay_s = ready_s * (number + 0.5) / moments * 1.2
            report = trial.run(victim, delay_s)
            running += report[0]
            left += report[1]
    line = figure(
        f"R21-{engine.command}",
        trials=moments * len(VICTIMS),
        with_container=running,
        left=left,
        ready_ms=round(ready_s * 1000),
    )
    assert left == 0, line
    assert running, f"no container ran at any of the moments: {line}"


@pytest.mark.timeout(600)
def test_r21_control(engine: Engine, tmp_path: Path, figure: Callable[..., str]) -> None:
    """Without the undo, a container is left."""
    trial = Trial(engine, tmp_path, program=[sys.executable, "-c", WITHOUT_UNDO])
    trial.measure()
    _, left = trial.run("orchestrator", None)
    figure(f"R21-control-{engine.command}", left=left)
    assert left > 0


class Trial:
    """Runs the workflow again and again, each time in a folder of its own, and kills."""

    def __init__(self, engine: Engine, folder: Path, program: list[str] | None = None) -> None:
        self._engine = engine
        self._folder = folder
        self._program = program or [sys.executable, "-m", "lightflow"]
        self._count = 0
        self._place = folder

    def measure(self) -> float:
        """Return the seconds until the container runs, in an undisturbed run."""
        process = self._start()
        began = time.monotonic()
        self._await_container(process)
        ready_s = time.monotonic() - began
        (self._place / "go").touch()
        assert process.wait(LIMIT_S) == 0
        assert self._engine.labelled() == []
        return ready_s

    def run(self, victim: str, delay_s: float | None) -> tuple[int, int]:
        """Kill after a delay (None: when the container runs). Return the numbers of containers then and at the end."""
        process = self._start()
        if delay_s is None:
            self._await_container(process)
        else:
            time.sleep(delay_s)
        guardian = _guardian_of(process.pid)
        victims = {
            "orchestrator": [process.pid],
            "client": _clients(process.pid, self._engine.command),
            "guardian": [guardian],
            "both": [guardian, process.pid],
        }[victim]
        before = len(self._engine.labelled())
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in victims:
                with suppress(ProcessLookupError):
                    if pid:
                        os.kill(pid, number)
        (self._place / "go").touch()  # the container that a survivor or a resume starts ends at once
        process.wait(LIMIT_S)
        _await_end(guardian)
        if victim == "both" and (self._place / "lightflow.db").exists():
            command = [*self._program, "resume", "flow.yaml"]
            subprocess.run(command, cwd=self._place, env=self._env(), capture_output=True, check=False)
        left = self._engine.labelled()
        self._engine.remove_labelled()
        return before, len(left) + len(container_kit.secret_files(self._place / "lightflow.db"))

    def _start(self) -> subprocess.Popen[bytes]:
        self._count += 1
        self._place = self._folder / str(self._count)
        self._place.mkdir()
        text = FLOW.replace("IMAGE", SHELL_IMAGE).replace("ENGINE", self._engine.command)
        (self._place / "flow.yaml").write_text(text)
        return subprocess.Popen(
            [*self._program, "run", "flow.yaml"],
            cwd=self._place,
            env=self._env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _env(self) -> dict[str, str]:
        return {**os.environ, **self._engine.env, "PYTHONPATH": str(ROOT), "TOKEN": "open-sesame-21"}

    def _await_container(self, process: subprocess.Popen[bytes]) -> None:
        give_up = time.monotonic() + LIMIT_S
        while not self._engine.run("ps", "--quiet", "--filter", "label=lightflow.mark").split():
            assert process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.02)


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _guardian_of(pid: int) -> int:
    """Return the guardian of a run; 0: it has not started."""
    return next(iter(_children(pid)), 0)


def _clients(pid: int, command: str) -> list[int]:
    """Return the processes below a run that are clients of the engine."""
    found, below = [], _children(pid)
    while below:
        each = below.pop()
        below += _children(each)
        with suppress(OSError):
            if Path(f"/proc/{each}/comm").read_text().strip() == command:
                found.append(each)
    return found


def _await_end(pid: int) -> None:
    """Wait for the end of a guardian, which is not our child."""
    give_up = time.monotonic() + LIMIT_S
    while pid and Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in _status(pid):
        assert time.monotonic() < give_up, "the guardian does not end"
        time.sleep(0.02)


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "\nState:\tZ"
