"""The commands of the seed's page, as typed there, in an empty folder with nothing installed but the clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
Shell = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Run a line in the temporary folder; `python3` is this interpreter without its site-packages."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    python = bin_dir / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    python.chmod(0o755)
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    env = {**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        env.pop(name, None)

    def run(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", line], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
        )

    return run


def test_scaffold_then_run_then_visualize(shell: Shell, tmp_path: Path) -> None:
    made = shell("python3 -m liteflow scaffold > my_workflow.py")
    assert (made.returncode, made.stderr) == (0, "")
    ran = shell("python3 my_workflow.py")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "extract: read 5 orders" in ran.stdout
    assert "fetch_rate: got it at attempt 2" in ran.stdout, "the retry shows"
    assert "report: 5 orders, 138.00 EUR" in ran.stdout, "values were handed on"
    assert ": SUCCESS" in ran.stdout
    assert (tmp_path / "liteflow.db").is_file()
    drawn = shell("python3 -m liteflow visualize my_workflow --db liteflow.db")
    assert (drawn.returncode, drawn.stdout, drawn.stderr) == (0, "my_workflow.html\n", "")


def test_a_scaffolded_script_ends_with_1_when_its_run_fails(shell: Shell, tmp_path: Path) -> None:
    shell("python3 -m liteflow scaffold broken > broken.py")
    script = tmp_path / "broken.py"
    script.write_text(script.read_text().replace("retries=3", "retries=0"))
    ran = shell("python3 broken.py")
    assert ran.returncode == 1
    assert "fetch_rate failed: ConnectionError: the rate service did not answer" in ran.stdout
    assert "Traceback" not in ran.stdout


def test_the_complex_example_and_its_picture(shell: Shell, tmp_path: Path) -> None:
    ran = shell("python3 examples/complex_workflow.py")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "SUCCESS, 171 tasks" in ran.stdout
    drawn = shell("python3 -m liteflow visualize layered_dag_171 --db liteflow.db")
    assert (drawn.returncode, drawn.stdout, drawn.stderr) == (0, "layered_dag_171.html\n", "")
    page = (tmp_path / "layered_dag_171.html").read_text(encoding="utf-8")
    assert page.count('<tr data-node="') == 171
    assert page.count('data-state="SUCCESS"') >= 171
    text = shell("python3 -m liteflow visualize layered_dag_171 --db liteflow.db --format mermaid").stdout
    assert text.count("success ·") == 171


def test_the_example_runs_from_a_bare_clone_without_pythonpath(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-S", str(ROOT / "examples" / "complex_workflow.py")],
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_the_etl_example_gives_the_same_report_twice(shell: Shell, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        ran = shell(f"python3 examples/etl_workflow.py --out {folder}")
        assert (ran.returncode, ran.stderr) == (0, "")
        assert "validate: 5,8" in ran.stdout, "some of 6,000 orders are broken"
    report = (tmp_path / "one" / "report.md").read_text(encoding="utf-8")
    assert report == (tmp_path / "two" / "report.md").read_text(encoding="utf-8")
    assert report.count("| 2025-") == 12
    assert len((tmp_path / "one" / "orders.csv").read_text().splitlines()) == 6001
    tries = shell("python3 -m liteflow visualize etl_orders --db one/liteflow.db --format mermaid")
    assert tries.returncode == 0
    assert "t_fetch_rates --> t_convert" in tries.stdout
