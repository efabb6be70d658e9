"""Values of classes from the user's modules next to the workflow file, in every mode and after a resume."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT)}

MODELS = """
import collections, dataclasses, enum, os
from liteflow import current_context

@dataclasses.dataclass
class Order:
    number: int

class Color(enum.Enum):
    RED = 1

Pair = collections.namedtuple("Pair", "left right")

def make():
    return {"order": Order(3), "color": Color.RED, "pair": Pair(1, Order(2))}

def several():
    return [Order(1), Order(2)]

def check(value):
    if not os.path.exists("go"):
        raise RuntimeError("not yet")
    assert value == {"order": Order(3), "color": Color.RED, "pair": Pair(1, Order(2))}

def check_item(item):
    if not os.path.exists("go"):
        raise RuntimeError("not yet")
    assert type(item) is Order
"""

FLOW = """
workflow_name: own
tasks:
  make: {{type: python, call: "models:make"{more}}}
  several: {{type: python, call: "models:several"{more}}}
  check: {{type: python, call: "models:check", args: {{value: "${{{{ tasks.make.result }}}}"}}{more}}}
  field:
    type: python
    call: "models:check_item"
    args: {{item: "${{{{ tasks.make.result.order }}}}"}}
  pulls:
    type: python
    depends_on: make
    run: |
      import os
      from liteflow import current_context
      if not os.path.exists("go"):
          raise RuntimeError("not yet")
      assert current_context().xcom_pull("make")["order"].number == 3
"""


def lightflow(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "lightflow", *words]
    return subprocess.run(command, cwd=folder, env=ENVIRON, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("mode", ["thread", "process", "async"])
@pytest.mark.parametrize("more", ["", ", timeout: 60"])
def test_values_of_a_class_of_the_users_are_there_after_a_resume(tmp_path: Path, mode: str, more: str) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "models.py").write_text(MODELS)
    (tmp_path / "flows" / "flow.yaml").write_text(FLOW.format(more=more))
    first = lightflow(tmp_path, "run", "flows/flow.yaml", "--mode", mode)
    assert (first.returncode, first.stdout.count("RuntimeError: not yet")) == (1, 6), first.stdout
    (tmp_path / "go").touch()
    second = lightflow(tmp_path, "resume", "flows/flow.yaml", "--mode", mode)
    assert second.returncode == 0, second.stdout


def flow_of(folder: Path, call: str) -> str:
    (folder / "flow.yaml").write_text(f"workflow_name: w\ntasks: {{t: {{type: python, call: '{call}'}}}}\n")
    return lightflow(folder, "run", "flow.yaml").stdout


@pytest.mark.parametrize("name", ["signal", "types", "json", "yaml", "queue", "sys"])
def test_a_module_named_like_one_that_is_loaded_is_named_with_its_file(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("def f(): print('ran')\n")
    out = flow_of(tmp_path, f"{name}:f")
    if "t SUCCESS" not in out:  # nothing had loaded the other module
        assert f"{tmp_path / name}.py: a module named '{name}' is loaded already" in out
        assert "give the file another name" in out


def test_a_package_next_to_the_file_is_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").touch()
    (tmp_path / "own_package" / "inner.py").write_text("def f(): print('ran')\n")
    assert "SUCCESS" in flow_of(tmp_path, "own_package.inner:f")


def test_a_module_that_exits_while_it_is_imported_fails_the_task(tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text("import sys\ndef f(): pass\nsys.exit(0)\n")
    assert "ImportError: module 'leaves' calls sys.exit(0) while it is imported" in flow_of(tmp_path, "leaves:f")


def test_inline_code_that_cannot_be_pickled_explains_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(
        """
workflow_name: w
tasks:
  t:
    type: python
    run: |
      import pickle
      def square(number):
          return number * number
      pickle.dumps(square)
"""
    )
    assert lightflow(tmp_path, "run", "flow.yaml").returncode == 1
    assert "put it into a module" in lightflow(tmp_path, "why", "t").stdout
    assert lightflow(tmp_path, "run", "flow.yaml", "--mode", "process").returncode == 0
