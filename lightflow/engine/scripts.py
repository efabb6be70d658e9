"""Python files that define dags: loaded to be run, or only looked at in a process of their own.

A script is a program of its author's, so commands that must execute nothing themselves (`validate`, `dag`,
`run --dry-run`) let a child process load it, with a time limit, and get back a description.
"""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import subprocess
import sys
from typing import Any, Final

from lightflow.errors import Problem, WorkflowError
from liteflow import Dag, LiteflowError
from liteflow.dag import collect

_TIME_LIMIT_S: Final = 30.0
_MARK: Final = "\x1elightflow-dags:"  # before our line: whatever the script itself prints is passed over


def load_dags(path: str) -> list[Dag]:
    """Execute the script and return the dags it defines. Where it comes to running one itself, it is stopped.

    Dags are looked for at the top of the module first; if there is none, in what the script does as a program.
    """
    folder = os.path.dirname(os.path.abspath(path))
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return collect(lambda: _import(path)) or collect(lambda: runpy.run_path(path, run_name="__main__"))


def _import(path: str) -> None:
    name = os.path.splitext(os.path.basename(path))[0]
    if not name.isidentifier() or name in sys.modules:
        name = f"lightflow_script_{name.encode().hex()}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where pickle and dataclasses look for what it defines
    spec.loader.exec_module(module)


def describe_dags(path: str) -> list[dict[str, Any]]:
    """What dags a script defines, found out in a child process.

    Returns for each `{"dag_id", "description", "tasks": [{"id", "kind", "depends_on", "rule"?}]}`.

    Raises:
        WorkflowError: the script fails, takes more than 30 seconds, or defines no dag.
    """
    command = [sys.executable, "-m", "lightflow.engine.scripts", path]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIME_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise WorkflowError(
            [Problem(path, 0, 0, "", f"took more than {_TIME_LIMIT_S:g} s to define its dags")]
        ) from None
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        if line.startswith(_MARK):
            answer = json.loads(line[len(_MARK) :])
            if "problem" in answer:
                raise WorkflowError([Problem(path, answer["line"], 1 if answer["line"] else 0, "", answer["problem"])])
            return list(answer["dags"])
    raise WorkflowError([Problem(path, 0, 0, "", f"ended by itself (exit code {done.returncode}) while being read")])


def choose(path: str, names: list[str], wanted: str | None) -> int:
    """Which of a script's dags is meant.

    Raises:
        WorkflowError: none is defined, several are and none is named, or the named one is not there.
    """
    if not names:
        raise WorkflowError([Problem(path, 0, 0, "", "defines no dag; a dag is made with `with Dag('name') as dag:`")])
    if wanted is None and len(names) == 1:
        return 0
    if wanted in names:
        return names.index(wanted)
    known = ", ".join(names)
    message = (
        f"defines several dags ({known}); choose one with --dag" if wanted is None else f'no dag "{wanted}" ({known})'
    )
    raise WorkflowError([Problem(path, 0, 0, "", message)])


def where(error: BaseException, path: str) -> int:
    """The line of the script at which an exception arose, or 0."""
    line, trace = 0, error.__traceback__
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno or 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def explain(error: BaseException) -> str:
    """One line for what a script raised."""
    if isinstance(error, LiteflowError):
        return str(error)
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _describe(path: str) -> dict[str, Any]:
    try:
        dags = [
            {"dag_id": dag.dag_id, "description": dag.description, **json.loads(dag.program().snapshot)}
            for dag in load_dags(path)
        ]
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a border: the script is somebody else's code
        return {"problem": explain(error), "line": where(error, path)}
    return {"dags": dags}


if __name__ == "__main__":
    answer = json.dumps(_describe(sys.argv[1]))
    sys.stdout.write(f"\n{_MARK}{answer}\n")
