"""Machines whose Python is of another minor version: they run commands and functions that go by name.

The agents are on this machine, with another interpreter and the packages of this one.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from far_kit import AGENT, Far, cluster_of, opened_executors
from process_kit import is_alive, python_of
from scheduler_kit import ROOT

from liteflow import Dag, __version__
from liteflow.errors import ResourceError
from liteflow.remote.shipping import ByName
from liteflow.values.payload import decode
from liteflow.work import Call, Command

OWN_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER_VERSIONS = [version for version in ("3.11", "3.12", "3.13") if version != OWN_VERSION]

Open = Callable[..., Far]


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    with opened_executors(tmp_path, monkeypatch) as make:
        yield make


@pytest.fixture(params=OTHER_VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """The other version."""
    return str(request.param)


@pytest.fixture
def agent(version: str) -> tuple[str, ...]:
    """The command line of an agent with the other version."""
    return ("env", f"PYTHONPATH={ROOT}", "PYTHONDONTWRITEBYTECODE=1", python_of(version), *AGENT[1:])


def test_a_run_of_commands_needs_no_equal_version(
    agent: tuple[str, ...], version: str, tmp_path: Path, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Dag("flow", db, clusters={"lab": cluster_of({"w1": 1}, agent)}) as dag:
        made = dag.shell("readlink /proc/$PPID/exe", "made", mode="lab", output="last_line")
        dag.shell("echo $LIGHTFLOW_TASK; exit 3", "fails", mode="lab", depends_on=made)
        dag.shell("setsid sleep 1000 & echo $! >pid; wait", "hangs", mode="lab", timeout=1.0)
    run = dag.run(log_dir=str(tmp_path / "logs"))
    assert run.statuses() == {"made": "SUCCESS", "fails": "FAILED", "hangs": "FAILED"}, run.failures()
    assert os.path.basename(run.value("made")) == f"python{version}"
    assert "exit code 3" in run.failures()["fails"]
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_a_function_by_name_runs_there(far: Open, agent: tuple[str, ...], version: str) -> None:
    made = far({"t": Call(platform.python_version)}, argv=agent, shipping=ByName())
    made.submit("t")
    (outcome,) = made.collect()
    assert outcome.verdict == "SUCCESS", outcome
    assert outcome.value is not None
    assert str(decode(outcome.value)).startswith(f"{version}.")


def test_a_function_with_its_code_is_refused(far: Open, agent: tuple[str, ...], version: str) -> None:
    made = far({"t": Call(lambda: 3), "c": Command(("true",))}, argv=agent)
    made.submit("c")
    with pytest.raises(ResourceError) as error:
        made.collect()
    reason = str(error.value)
    assert reason.startswith(f"the cluster 'far' has no machine that can run a task: w1 ({platform.node()}) has ")
    assert f"has Lightflow {__version__} on Python {version}." in reason
    assert reason.endswith(f"this is {__version__} on {platform.python_version()}: install the same there")
    assert os.listdir(os.environ["TMPDIR"]) == []
