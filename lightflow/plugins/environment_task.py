"""Python tasks that run in an interpreter of their own: a file, code, or a function in an environment of the task."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lightflow.plugins.base import absolute, with_secrets
from lightflow.plugins.variables import computed, constant, texts
from lightflow.spec.model import TaskSpec
from liteflow import Call, TaskFailed, current_context

#: The program of a task with `call`: it calls the function with the arguments on standard input, and stores its value.
_CALLER: Final = """
import asyncio, importlib, json, os, sys
target, folders = sys.argv[1], sys.argv[2:]
sys.path[:0] = folders
arguments = json.load(sys.stdin)
module, _, names = target.partition(":")
function = importlib.import_module(module)
for name in names.split("."):
    function = getattr(function, name)
value = function(**arguments) if isinstance(arguments, dict) else function(*arguments)
if asyncio.iscoroutine(value):
    value = asyncio.run(value)
if value is not None:
    try:
        text = json.dumps({"return_value": value})
    except (TypeError, ValueError) as error:
        sys.exit(f"{target} returned a value that is not JSON, and nothing else leaves its environment: {error}")
    with open(os.environ["LIGHTFLOW_OUTPUT"], "a", encoding="utf-8") as file:
        file.write(text + "\\n")
"""
#: Variables that change the modules that an interpreter finds.
_OF_PYTHON: Final = ("PYTHONPATH", "PYTHONHOME")
#: With these the output of a program is in the log at once, and in UTF-8, as that of other Python tasks is.
_OUTPUT: Final = {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8:backslashreplace"}


def environment_call(task: TaskSpec) -> Call:
    """Return the call that runs a Python task in an interpreter of its own."""
    config = task.config
    program = {key: config[key] for key in ("run", "call", "file") if key in config}
    arguments = {
        "program": program,
        "args": config.get("args"),
        "environment": config.get("environment"),
        "folder": os.path.dirname(task.file),
        "variables": computed(task.env),
    }
    return Call(run_in_environment, arguments, absolute(task.cwd), constant(task.env), lane="process")


def run_in_environment(
    program: Mapping[str, str], args: Any, environment: Any, folder: str, variables: Mapping[str, Any]
) -> None:
    """Run a Python program to its end, and fail as it does."""
    from lightflow.plugins import python_environment

    os.environ.update(texts(with_secrets(variables)))
    args = with_secrets(args)
    code = program.get("run")
    path = os.path.join(folder, os.path.expanduser(program["file"])) if "file" in program else ""
    if path and not os.path.isfile(path):
        raise TaskFailed(f"there is no file {path}", final=True)
    if environment is None:
        _run(sys.executable, _words(program, path, folder), _input(program, args))
        return
    if environment == "script" and path:
        with open(path, encoding="utf-8", errors="replace") as file:
            code = file.read()
    wanted = python_environment.requirements(environment, code, folder)
    context = current_context()
    with python_environment.environment_in(python_environment.environments_folder(context.db_path), wanted) as home:
        context.xcom_push("packages", python_environment.packages_of(home))
        for name in _OF_PYTHON:
            if name in os.environ:
                print(f"warning: {name} is set, and changes the modules that the environment finds", flush=True)
        _run(os.path.join(home, "bin", "python"), _words(program, path, folder), _input(program, args))


def _words(program: Mapping[str, str], path: str, folder: str) -> list[str]:
    """Return the arguments of the interpreter."""
    if path:
        return [path]
    if "call" in program:
        return ["-c", _CALLER, program["call"], folder, os.getcwd()]
    return ["-c", program["run"]]


def _input(program: Mapping[str, str], args: Any) -> bytes:
    """Return the standard input of a program: the arguments of a function as JSON. Raises TaskFailed."""
    if "call" not in program:
        return b""
    try:
        return json.dumps({} if args is None else args).encode()
    except (TypeError, ValueError) as error:
        raise TaskFailed(
            f"an argument is not JSON, which is all that enters an environment: {error}", final=True
        ) from None


def _run(python: str, words: Sequence[str], data: bytes) -> None:
    """Run an interpreter to its end. Raises TaskFailed: it has failed."""
    sys.stdout.flush()
    with subprocess.Popen([python, *words], stdin=subprocess.PIPE, env={**_OUTPUT, **os.environ}) as process:
        process.communicate(data)
    if process.returncode != 0:
        how = f"exit code {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
        raise TaskFailed(f"Python ended with {how}", exit_code=process.returncode)
