"""Python files that define dags: loaded to run them, or described by a child process.

A script may do anything. A command that must not execute user code lets a child process load the script, with a time
limit, and gets a description back. The script is stopped where it would run a dag.
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
from liteflow.record import fields_of
from liteflow.values.params import described

TIME_LIMIT_S: Final = 30.0
_CHILD: Final = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from liteflow.scripts import describe; describe(sys.argv[1])"
)


def load_dags(path: str) -> list[Dag]:
    """Execute a script in this process and return the dags that it defines.

    The script is imported as a module first. If that defines no dag, it is executed as a program.

    Raises:
        ScriptError: the script fails.
    """
    arguments, sys.argv = sys.argv, [path]  # the script does not get the arguments of this program
    folder = os.path.dirname(os.path.abspath(path))
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        dags = _collect(path, lambda: _import(path)) or _collect(path, lambda: _execute(path))
    except Exception as error:  # a script may raise anything
        raise _script_error(error, path) from error
    finally:
        sys.argv = arguments
    return dags


def _collect(path: str, load: Any) -> list[Dag]:
    """Return the dags that a script defines until it ends or exits.

    Raises:
        ScriptError: it exits before it has defined a dag.
    """
    exits: list[SystemExit] = []

    def until_exit() -> None:
        try:
            load()
        except SystemExit as error:  # the dags that it has defined until then count
            exits.append(error)

    dags = [dag for dag in discover_dags(until_exit) if dag.tasks]
    if exits and not dags:
        code = exits[0].code
        shown = "" if code is None else repr(code) if isinstance(code, int | str) else type(code).__name__
        raise ScriptError(path, _line_in(path, exits[0]), f"called sys.exit({shown}) before it defined a dag")
    return dags


def _execute(path: str) -> None:
    import runpy  # here, because most commands need neither this nor importlib.util

    runpy.run_path(path, run_name="__main__")


def _import(path: str) -> None:
    """Import the script under a module name, so that pickle and dataclasses find its classes."""
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
    """Return the index of the dag to use among the dags of a script.

    Raises:
        ScriptError: the script has no dag, has several and none is named, or lacks the named dag.
    """
    if not names:
        raise ScriptError(path, 0, "defines no dag; one is made with `with Dag('name') as dag:`")
    if wanted is None and len(names) == 1:
        return 0
    if wanted is not None and wanted in names:
        return list(names).index(wanted)
    choices = ", ".join(names)
    if wanted is None:
        raise ScriptError(path, 0, f"defines several dags; choose one with --dag: {choices}")
    raise ScriptError(path, 0, f"defines no dag {wanted!r}, but {choices}")


def describe_dags(path: str) -> list[dict[str, Any]]:
    """Return descriptions of the dags that a script defines, made by a child process with a time limit.

    A description is `{"dag_id", "description", "tasks": [{"id", "kind", "depends_on"?, "rule"?, …}]}`.

    Raises:
        ScriptError: the script fails or takes more than 30 seconds.
    """
    from liteflow.processes.guarded_command import CommandNotStarted, run_guarded

    # -P: modules in the current folder or in the folder of the script must not shadow the standard library or liteflow.
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
    """Load the script and print its dags as JSON; this is the main function of the child process."""
    answer_to = os.dup(1)  # what the script prints must not get into the answer
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.path[0] = os.path.dirname(path)  # as `python3 script.py` has it
    try:
        answer: dict[str, Any] = {
            "dags": [
                {
                    "dag_id": dag.dag_id,
                    "description": dag.description,
                    "secrets": sorted(dag.secrets),
                    "params": None if dag.params is None else described(dag.params),
                    "limits": {
                        "pools": {name: fields_of(pool) for name, pool in dag.limits.pools.items()},
                        "timeout": dag.limits.timeout_s,
                        "retry": fields_of(dag.limits.retry),
                        "concurrency": fields_of(dag.limits.concurrency) if dag.limits.concurrency else None,
                        "triggers": _described_triggers(dag),
                    },
                    **json.loads(dag.compile().snapshot),
                }
                for dag in load_dags(path)
            ]
        }
    except ScriptError as error:
        answer = {"problem": error.problem, "line": error.line}
    except BaseException as error:  # noqa: BLE001 - a boundary: the script is user code
        failed = _script_error(error, path)
        answer = {"problem": failed.problem, "line": failed.line}
    with open(answer_to, "w", encoding="utf-8") as pipe:
        json.dump(answer, pipe)


def _described_triggers(dag: Dag) -> list[tuple[str, dict[str, Any]]]:
    """Return the triggers of a dag as values of JSON: the kind and the fields of each."""
    if not dag.limits.triggers:
        return []
    from liteflow.triggers import kind_of, spec_of

    return [(kind_of(trigger), spec_of(trigger)) for trigger in dag.limits.triggers]


def _line_in(path: str, error: BaseException) -> int:
    """Return the line of the script that raised an exception; 0 where no line of the script did."""
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
    """Return an exception of a script as an error, with its text on one line and the line of the script."""
    if isinstance(error, ScriptError):
        return error
    line = _line_in(path, error)
    text = str(error) if isinstance(error, LiteflowError) else f"{type(error).__name__}: {error}"
    return ScriptError(path, line, " ".join(text.split()))
