"""Python files that define dags: loaded to be run, or looked at in a process of their own.

A script is a program of its author's and may do anything, so commands that must execute nothing themselves let a child
process load it, with a time limit, and get a description back. Where a script comes to running a dag, it is stopped.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from liteflow.dag import Dag
from liteflow.definition.discovery import discover_dags
from liteflow.errors import LiteflowError, ScriptError
from liteflow.values.params import described

TIME_LIMIT_S: Final = 30.0
_CHILD: Final = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from liteflow.scripts import describe; describe(sys.argv[1])"
)


def load_dags(path: str) -> list[Dag]:
    """Execute a script in this process and return the dags it defines.

    They are looked for at the top of the module first; if there is none, in what the script does as a program.

    Raises:
        ScriptError: the script fails.
    """
    arguments, sys.argv = sys.argv, [path]  # ours are not the script's
    folder = os.path.dirname(os.path.abspath(path))
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        dags = _collect(path, lambda: _import(path)) or _collect(path, lambda: _execute(path))
    except Exception as error:
        raise _script_error(error, path) from error
    finally:
        sys.argv = arguments
    return dags


def _collect(path: str, load: Any) -> list[Dag]:
    """The dags that a script defines until it ends, or exits.

    Raises:
        ScriptError: it exits before it has defined any, and would do so again.
    """
    exits: list[SystemExit] = []

    def until_exit() -> None:
        try:
            load()
        except SystemExit as error:  # what it has defined until then counts
            exits.append(error)

    found = [dag for dag in discover_dags(until_exit) if dag.tasks]
    if exits and not found:
        code = exits[0].code
        shown = "" if code is None else repr(code) if isinstance(code, int | str) else type(code).__name__
        raise ScriptError(path, _line_in(path, exits[0]), f"called sys.exit({shown}) before it defined a dag")
    return found


def _execute(path: str) -> None:
    import runpy  # scripts are the rarer kind of workflow: most commands need neither this nor importlib.util

    runpy.run_path(path, run_name="__main__")


def _import(path: str) -> None:
    """Import the script under a name where pickle and dataclasses find what it defines."""
    import importlib.util

    name = os.path.splitext(os.path.basename(path))[0]
    if not name.isidentifier() or name in sys.modules:
        name = f"liteflow_script_{name.encode().hex()}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ScriptError(path, 0, "is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def choose_dag(path: str, names: Sequence[str], wanted: str | None) -> int:
    """Which of a script's dags is meant.

    Raises:
        ScriptError: it defines none, several and none is named, or not the one that is named.
    """
    if not names:
        raise ScriptError(path, 0, "defines no dag; one is made with `with Dag('name') as dag:`")
    if wanted is None and len(names) == 1:
        return 0
    if wanted is not None and wanted in names:
        return list(names).index(wanted)
    known = ", ".join(names)
    if wanted is None:
        raise ScriptError(path, 0, f"defines several dags; choose one with --dag: {known}")
    raise ScriptError(path, 0, f"defines no dag {wanted!r}, but {known}")


def describe_dags(path: str) -> list[dict[str, Any]]:
    """What dags a script defines, found out in a child process with a time limit.

    Returns for each `{"dag_id", "description", "tasks": [{"id", "kind", "depends_on"?, "rule"?, …}]}`.

    Raises:
        ScriptError: the script fails or takes more than 30 seconds.
    """
    from liteflow.processes.guarded_command import CommandNotStarted, run_guarded

    # -P: neither the current folder nor the script's may stand in for the standard library or for this package.
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    command = [sys.executable, "-P", "-c", _CHILD, home, os.path.abspath(path)]
    try:
        code, output = run_guarded(command, None, TIME_LIMIT_S, quiet=True)
    except TimeoutError:
        raise ScriptError(path, 0, f"took more than {TIME_LIMIT_S:g} s to define its dags") from None
    except (CommandNotStarted, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ScriptError(path, 0, f"cannot be read, a process cannot be started: {reason}") from None
    try:
        answer = json.loads(output)
    except ValueError:
        message = f"ended by itself (exit code {code}) while it was read"
        raise ScriptError(path, 0, message) from None
    if "problem" in answer:
        raise ScriptError(path, answer["line"], answer["problem"])
    return [dag for dag in answer["dags"] if isinstance(dag, dict)]


def describe(path: str) -> None:
    """The child's part: load the script and print its dags as JSON."""
    answer_to = os.dup(1)  # the script's own prints must not get into the answer
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.path[0] = os.path.dirname(path)  # as `python3 script.py` has it
    try:
        answer: dict[str, Any] = {
            "dags": [
                {
                    "dag_id": dag.dag_id,
                    "description": dag.description,
                    "params": None if dag.params is None else described(dag.params),
                    "limits": {
                        "pools": dict(dag.limits.pools),
                        "timeout": dag.limits.timeout_s,
                        "retry": dag.limits.retry,
                        "concurrency": dag.limits.concurrency,
                    },
                    **json.loads(dag.compile().snapshot),
                }
                for dag in load_dags(path)
            ]
        }
    except ScriptError as error:
        answer = {"problem": error.problem, "line": error.line}
    except BaseException as error:  # noqa: BLE001 - a border: the script is somebody else's code
        failed = _script_error(error, path)
        answer = {"problem": failed.problem, "line": failed.line}
    with open(answer_to, "w", encoding="utf-8") as pipe:
        json.dump(answer, pipe)


def _line_in(path: str, error: BaseException) -> int:
    """The line of the script at which an exception arose; 0 where it is none of the script's."""
    line, paths = 0, (path, os.path.abspath(path))
    if isinstance(error, SyntaxError) and error.filename in paths:
        line = error.lineno or 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename in paths:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _script_error(error: BaseException, path: str) -> ScriptError:
    """What a script raised, in one line, with the line of the script at which it arose."""
    if isinstance(error, ScriptError):
        return error
    line = _line_in(path, error)
    text = str(error) if isinstance(error, LiteflowError) else f"{type(error).__name__}: {error}"
    return ScriptError(path, line, " ".join(text.split()))
