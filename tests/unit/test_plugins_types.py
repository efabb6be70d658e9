"""The built-in task types: the body for the engine, and the work in the worker."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import pytest

from lightflow.parser.workflow_loader import load_workflow, loads_workflow
from lightflow.plugins.base import importing_from
from lightflow.plugins.python_task import PythonTask, run_call, run_inline
from lightflow.plugins.registry import Registry
from lightflow.plugins.shell_task import ShellTask
from liteflow.work import Call, Command


def built(text: str, file: str = "w.yaml") -> Call | Command:
    task = loads_workflow(text, file).tasks["t"]
    return Registry().load(task.type).build(task)


def test_a_shell_task_is_one_argument_of_sh() -> None:
    body = built("env: {A: 1, B: 2}\ntasks: {t: {run: 'echo \"$A\"', cwd: data, env: {B: 3}}}")
    assert body == Command(("/bin/sh", "-e", "-c", 'echo "$A"'), os.path.abspath("data"), {"A": "1", "B": "3"})


CODE = """\
workflow_name: w
tasks:
  t:
    type: python
    # the code begins two lines below
    run: |
      import sys

      def broken(number):
          return number / 0

      broken(1)
"""


def test_a_traceback_names_the_line_in_the_workflow_file() -> None:
    body = built(CODE, "flows/w.yaml")
    assert isinstance(body, Call)
    with pytest.raises(ZeroDivisionError) as caught:
        body.func(**body.kwargs)
    frames = traceback.extract_tb(caught.value.__traceback__)[-2:]
    assert [(frame.filename, frame.lineno, frame.line) for frame in frames] == [
        ("<w.yaml:t>", 12, "broken(1)"),
        ("<w.yaml:t>", 10, "return number / 0"),
    ]
    assert 'File "<w.yaml:t>", line 10, in broken\n    return number / 0\n' in "".join(
        traceback.format_exception(caught.value)
    )


def test_inline_code_runs_as_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    code = """
from __future__ import annotations
import dataclasses, pickle

@dataclasses.dataclass
class Point:
    x: int

def first():
    return second()

def second():
    return Point(2)

if __name__ == "__main__":
    assert pickle.loads(pickle.dumps(first())) == Point(2)
    print("ran")
"""
    before = sys.modules["__main__"]
    run_inline(code, "<w.yaml:script>")
    assert capsys.readouterr().out == "ran\n"
    assert sys.modules["__main__"] is before


def test_in_a_thread_the_main_module_is_left_alone() -> None:
    before, seen = sys.modules["__main__"], []
    code = "import sys\nassert __name__ == '__main__'\nassert sys.modules['__main__'].__dict__ is not globals()\n"
    thread = threading.Thread(target=lambda: seen.append(run_inline(code, "<w.yaml:thread>")))
    thread.start()
    thread.join()
    assert seen == [None]
    assert sys.modules["__main__"] is before


def test_exit_codes_of_inline_code() -> None:
    with pytest.raises(SystemExit):
        run_inline("raise SystemExit(3)", "<x>")


def test_a_call_finds_modules_next_to_the_workflow_file(tmp_path: Path) -> None:
    (tmp_path / "lf_beside.py").write_text(
        "def add(a, b=1):\n    return a + b\n\n"
        "async def later(a):\n    return a\n\n"
        "class Box:\n    make = staticmethod(add)\n"
    )
    flow = tmp_path / "w.yaml"
    flow.write_text("tasks: {t: {type: python, call: 'lf_beside:add', args: {a: 2, b: 3}}}")
    task = load_workflow(flow).tasks["t"]
    body = PythonTask().build(task)
    path = list(sys.path)
    assert body.func(**body.kwargs) == 5
    assert run_call("lf_beside:Box.make", [1], str(tmp_path)) == 2
    assert asyncio.run(run_call("lf_beside:later", ["x"], str(tmp_path))) == "x"  # the engine runs it in this way
    assert sys.path == path


def test_the_module_path_is_restored_after_a_failure(tmp_path: Path) -> None:
    path = list(sys.path)
    with pytest.raises(ImportError), importing_from(str(tmp_path)):
        import lf_there_is_no_such_module  # type: ignore[import-not-found]  # noqa: F401
    assert sys.path == path


def test_bodies_run_in_a_fresh_interpreter(tmp_path: Path) -> None:
    body = built(CODE.replace("number / 0", "print('from a worker')"))
    program = "import pickle, sys; body = pickle.load(sys.stdin.buffer); body.func(**body.kwargs)"
    done = subprocess.run(
        [sys.executable, "-c", program], input=pickle.dumps(body), capture_output=True, cwd=tmp_path, check=True
    )
    assert done.stdout == b"from a worker\n"


@pytest.mark.parametrize(
    "code",
    [
        "-" * 100000 + "1",
        "(" * 100000,
        "a" + ".a" * 100000,
        "a" + "+a" * 100000,
        "not " * 50000 + "1",
        "return 1",
        "x = '\\d'\n(",
        "\x00",
    ],
)
def test_code_that_does_not_compile_is_a_problem_and_nothing_worse(code: str) -> None:
    problems = list(PythonTask().check({"run": code}))
    assert len(problems) == 1
    assert problems[0].message.startswith("not valid Python: ")


def test_warnings_of_the_compiler_are_not_problems() -> None:
    assert list(PythonTask().check({"run": "x = '\\d'\n"})) == []


def test_a_shell_task_has_nothing_to_check() -> None:
    assert list(ShellTask().check({"run": "if"})) == []
