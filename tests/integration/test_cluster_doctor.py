"""`lightflow doctor --cluster`: what it says of machines that work, and of those that do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ssh_stand_in
from far_kit import cluster_of
from process_kit import python_of
from scheduler_kit import ROOT

from liteflow import __version__
from liteflow.record import replace
from liteflow.remote.survey import survey

LIMIT_S = 60.0
OWN_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER_VERSIONS = [version for version in ("3.11", "3.12", "3.13") if version != OWN_VERSION]
WRONG_VERSION = (
    "import liteflow.version; liteflow.version.__version__ = '9.9'\nfrom liteflow.remote.agent import main\nmain()"
)


class Doctor:
    """The command in a folder, with a stand-in for ssh."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._env = {**os.environ, "PATH": ssh_stand_in.install(folder / "bin", os.path.dirname(sys.executable))}

    def __call__(self, code: int, *words: str) -> str:
        command = [sys.executable, "-m", "lightflow", "doctor", *words]
        done = subprocess.run(
            command, cwd=self.folder, env=self._env, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def verdicts(self, code: int, *words: str) -> dict[str, tuple[str, str]]:
        findings = json.loads(self(code, "--json", *words))["findings"]
        return {each["check"]: (each["verdict"], each["message"]) for each in findings}


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    return Doctor(tmp_path)


def test_a_machine_that_works_and_one_that_is_not_reached(doctor: Doctor) -> None:
    verdicts = doctor.verdicts(1, "--cluster", "node1,unreachable")
    assert verdicts["node1"][0] == "fine"
    assert "has Lightflow" in verdicts["node1"][1]
    assert verdicts["node1 folder"] == ("fine", f"{doctor.folder} exists there")
    assert verdicts["node1 clock"][0] == "fine"
    assert "GiB free in" in verdicts["node1 disk"][1]
    assert verdicts["unreachable"][0] == "missing"
    reason = "ssh: Could not resolve hostname unreachable: Name or service not known"
    assert verdicts["unreachable"][1] == f"{reason}; `ssh unreachable true` must succeed and ask nothing"


@pytest.mark.parametrize("python", ["no-such-python", "python-without-lightflow"])
def test_a_machine_whose_python_has_no_lightflow_says_what_to_do(doctor: Doctor, python: str) -> None:
    without = doctor.folder / "bin" / "python-without-lightflow"
    without.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    without.chmod(0o755)
    (doctor.folder / "flow.yaml").write_text(
        f"clusters: {{lab: {{ssh: node1, python: {python}}}}}\ntasks: {{a: {{run: echo}}}}\n"
    )
    verdict, message = doctor.verdicts(1, "flow.yaml", "--cluster", "lab")["node1"]
    assert verdict == "missing"
    assert f"; '{python}' there must have Lightflow {__version__}: install it there, or name another" in message


def test_a_mistake_is_one_sentence(doctor: Doctor) -> None:
    (doctor.folder / "flow.yaml").write_text("clusters: {lab: {ssh: node1}}\ntasks: {a: {run: echo}}\n")
    assert "there is no cluster 'lap', did you mean \"lab\"?" in doctor(2, "flow.yaml", "--cluster", "lap")
    assert "a FILE is for --cluster NAME" in doctor(2, "flow.yaml")
    assert "host '-x': write a name that ssh knows" in doctor(2, "--cluster=-x")


def test_a_machine_of_another_version_does_not_hide_the_others() -> None:
    wrong = (sys.executable, "-c", WRONG_VERSION)
    cluster = replace(cluster_of({"w1": 1, "w2": 1}, others={"w1": wrong}), hosts=("w1", "w2"))
    machines = {machine.host: machine for machine in survey(cluster, LIMIT_S)}
    assert machines["w1"].facts is None
    assert "has Lightflow 9.9 on Python" in machines["w1"].failure
    assert machines["w2"].facts is not None
    assert abs(machines["w2"].offset_s) <= machines["w2"].way_s / 2 + 0.001, "it is the clock of this machine"


@pytest.mark.parametrize("version", OTHER_VERSIONS)
def test_a_machine_of_another_python_says_what_runs_there(doctor: Doctor, version: str) -> None:
    other = doctor.folder / "bin" / "other-python"
    words = f"env PYTHONPATH={ROOT} PYTHONDONTWRITEBYTECODE=1 {python_of(version)}"
    other.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    other.chmod(0o755)
    (doctor.folder / "flow.yaml").write_text(
        f"clusters: {{lab: {{ssh: 'node1:3', python: {other}}}}}\ntasks: {{a: {{run: echo}}}}\n"
    )
    verdicts = doctor.verdicts(0, "flow.yaml", "--cluster", "lab")
    assert verdicts["node1"][0] == "fine"
    assert f"on Python {version}." in verdicts["node1"][1]
    assert ", 3 tasks at once, and answers in" in verdicts["node1"][1]
    verdict, message = verdicts["node1 python"]
    assert verdict == "warning"
    assert message.startswith("runs whose tasks there are all commands work with Python ")
    assert verdicts["node1 folder"][0] == "fine"


def test_files_of_the_cluster_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "src").mkdir()
    monkeypatch.chdir(tmp_path)
    cluster = replace(cluster_of({"w1": 1}, files=("src",), folder=str(tmp_path)), hosts=("w1",))
    (machine,) = survey(cluster, LIMIT_S)
    assert machine.facts is not None
    assert "lightflow-agent-" in machine.facts["cwd"]
