"""Processes that a task starts with the method "spawn" import the modules beside the workflow file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
import concurrent.futures, multiprocessing

def square(number):
    return number * number

def pool():
    with multiprocessing.get_context("spawn").Pool(1) as made:
        return made.map(square, [3])

def futures():
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as made:
        return list(made.map(square, [3]))
"""
FLOW = """
tasks:
  pool: {type: python, call: "beside:pool"}
  futures: {type: python, call: "beside:futures"}
  inline:
    type: python
    run: |
      import sys
      sys.path.append("flows")
      import beside
      assert beside.pool() == [9]
settings: {max_parallel_tasks: 3}
"""


@pytest.mark.parametrize("mode", ["thread", "process", "async"])
def test_a_pool_finds_the_module_of_its_function(mode: str, tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "beside.py").write_text(MODULE)
    (tmp_path / "flows" / "flow.yaml").write_text(FLOW)
    command = [sys.executable, "-m", "lightflow", "run", "flows/flow.yaml", "--mode", mode, "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
