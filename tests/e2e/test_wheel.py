"""What is installed is what was tested: both wheels, in fresh environments, on every supported Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
from process_kit import python_of

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("3.11", "3.12", "3.13")

SCRIPT = """
import sys
from liteflow import Dag, XCom

def extract(): return [3, 4]
def total(extract): return sum(extract)

if __name__ == "__main__":
    with Dag("sums", db_path="liteflow.db") as dag:
        dag.task(extract)
        dag.task(total, timeout=30)
        dag.task(lambda total: total * 2, task_id="double")
    for mode in ("process", "thread", "async"):
        run = dag.run(mode=mode).raise_for_failure()
        assert XCom.load("liteflow.db", run.run_id, "double") == 14
    print("fine")
"""

WORKFLOW = """
workflow_name: small
tasks:
  make: {run: "seq 5 > numbers.txt"}
  add:
    type: python
    run: print("sum", sum(int(line) for line in open("numbers.txt")))
    depends_on: [make]
"""


def build(folder: Path, out: Path) -> Path:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("wheels")
    clone = tmp_path_factory.mktemp("clone") / "lightflow"
    shutil.copytree(
        ROOT,
        clone,
        ignore=shutil.ignore_patterns(".venv", ".git", "demo-out", "*_cache", "__pycache__", "build", "dist"),
    )
    return {"whole": build(clone, out / "whole"), "engine": build(clone / "packaging" / "liteflow", out / "engine")}


def environment(python: str, wheel: str, folder: Path) -> Path:
    """A fresh virtual environment with the wheel in it. Returns its folder of programs."""
    subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True, capture_output=True)
    bin_folder = folder / "bin"
    uv = Path(sys.executable).parent / "uv"
    if uv.exists():
        command = [str(uv), "pip", "install", "--quiet", "--python", str(bin_folder / "python"), wheel]
    else:
        command = [sys.executable, "-m", "pip", "--python", str(bin_folder / "python"), "install", "-q", wheel]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return bin_folder


def run(command: list[str], folder: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LIGHTFLOW"))}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=clean, timeout=100)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_the_whole_works_when_installed(version: str, wheels: dict[str, Path], tmp_path: Path) -> None:
    programs = environment(python_of(version), f"{wheels['whole']}[pictures]", tmp_path / "env")
    work = tmp_path / "work"
    work.mkdir()
    (work / "small.yaml").write_text(WORKFLOW, encoding="utf-8")
    (work / "sums.py").write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    lightflow = str(programs / "lightflow")
    assert "0." in run([lightflow, "--version"], work)
    run([lightflow, "run", "small.yaml"], work)
    assert "sum 15" in run([lightflow, "logs", "--task", "add"], work)
    run([lightflow, "dag", "small.yaml", "--output", "small.svg"], work)
    assert (work / "small.svg").read_text(encoding="utf-8").lstrip().startswith("<")
    assert run([str(programs / "python"), "-W", "error", "sums.py"], work) == "fine\n"
    run([lightflow, "run", "sums.py"], work)
    script = run([str(programs / "liteflow"), "scaffold"], work)
    (work / "my_workflow.py").write_text(script, encoding="utf-8")
    run([str(programs / "python"), "my_workflow.py"], work)


@pytest.mark.slow
def test_a_plain_install_draws_without_graphviz(wheels: dict[str, Path], tmp_path: Path) -> None:
    lightflow = str(environment(sys.executable, str(wheels["whole"]), tmp_path / "env") / "lightflow")
    (tmp_path / "small.yaml").write_text(WORKFLOW, encoding="utf-8")
    run([lightflow, "dag", "small.yaml", "--output", "small.html"], tmp_path)
    done = subprocess.run([lightflow, "dag", "small.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "lightflow-workflows[pictures]" in done.stderr


@pytest.mark.slow
def test_the_engine_alone_needs_nothing(wheels: dict[str, Path], tmp_path: Path) -> None:
    names = zipfile.ZipFile(wheels["engine"]).namelist()
    assert not [name for name in names if name.startswith("lightflow/")]
    programs = environment(sys.executable, str(wheels["engine"]), tmp_path / "env")
    (tmp_path / "sums.py").write_text(SCRIPT, encoding="utf-8")
    assert run([str(programs / "python"), "-W", "error", "sums.py"], tmp_path) == "fine\n"


@pytest.mark.slow
def test_the_wheel_holds_what_it_should_and_nothing_else(wheels: dict[str, Path]) -> None:
    names = set(zipfile.ZipFile(wheels["whole"]).namelist())
    assert {"liteflow/py.typed", "lightflow/py.typed", "liteflow/assets/LICENSE.mermaid"} <= names
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "lightflow/server/pages").rglob("*") if path.is_file()}
    assert {"lightflow/server/pages/index.html", "lightflow/server/pages/vendor/LICENSE.preact"} <= pages <= names
    folders = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert folders == {"liteflow", "lightflow"}
