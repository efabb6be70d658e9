"""R21: no container of ours outlives its attempt, whoever is killed.

Proved, with docker and with podman: `kill -9` of the orchestrator, of the client of the engine, of the guardian, and of
orchestrator and guardian at the same instant, at moments from the start of a run until its container has run for a
while: afterwards no container carries our label, and no file of a secret is left in memory; in the last case from the
next resume on. Not proved: an engine that does not answer while the undo has its time; `lightflow doctor` lists those.

    CI=true pytest tests/crash/test_r21_containers.py --crash-scale 10      # 20 moments each, with each engine
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import container_kit
import pytest
from container_kit import SHELL_IMAGE, Engine
from outside import Outside, Trial, check_nothing_left, children

FLOW = """
workflow_name: killed
secrets: [TOKEN]
tasks:
  work:
    secrets: [TOKEN]
    run: test "$LIGHTFLOW_ATTEMPT" -gt 1 || sleep $((600 * LASTS))
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


class Containers(Outside):
    """The containers of an engine with our label, and the files of their secrets in memory."""

    stays_s = 0.0

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.flow = FLOW.replace("IMAGE", SHELL_IMAGE).replace("ENGINE", engine.command)
        self.env = {**engine.env, "TOKEN": "open-sesame-21"}

    def count(self) -> int:
        return len(self._engine.labelled())

    def clean(self) -> None:
        self._engine.remove_labelled()

    def clients(self, orchestrator: int, guardian: int) -> list[int]:
        """Return the processes below a run that are clients of the engine."""
        clients, below = [], children(orchestrator)
        while below:
            each = below.pop()
            below += children(each)
            with suppress(OSError):
                if Path(f"/proc/{each}/comm").read_text().strip() == self._engine.command:
                    clients.append(each)
        return clients

    def surplus(self, db: Path) -> int:
        return len(container_kit.secret_files(db))


@pytest.fixture(scope="module", params=["docker", "podman"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with getattr(container_kit, request.param)() as started:
        yield started


@pytest.mark.slow
@pytest.mark.timeout(100_000)
def test_r21_no_container_is_left(
    engine: Engine, tmp_path: Path, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    check_nothing_left(f"R21-{engine.command}", Containers(engine), tmp_path, figure, scaled)


@pytest.mark.timeout(600)
def test_r21_control(engine: Engine, tmp_path: Path, figure: Callable[..., str]) -> None:
    """Without the undo, a container is left."""
    trial = Trial(Containers(engine), tmp_path, program=[sys.executable, "-c", WITHOUT_UNDO])
    left = trial.run("orchestrator", 1.0, stays_s=0.0).left
    figure(f"R21-control-{engine.command}", left=left)
    assert left > 0
