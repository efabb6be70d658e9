"""Tasks in Python: code in the file (`run`), or a function of a module (`call`).

Inline code runs as a script does: `__name__` is `"__main__"`, in a module of its own that exists for one attempt. In
the main thread, as in a worker process, that module is also in `sys.modules`, so that pickle, `multiprocessing` and
dataclasses find what the code defines; threads share that table, so there it is not. Tracebacks name
`<flow.yaml:task>` and the line in the workflow file.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import types
import warnings
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from types import CodeType
from typing import Any, ClassVar, Final, SupportsIndex

from lightflow.import_path import import_from_folders, unpickling_from
from lightflow.plugins.base import ConfigProblem, TaskType, absolute
from lightflow.plugins.container_keys import CONTAINER, container_problems, image_hints
from lightflow.plugins.scripts import lines
from lightflow.spec.model import TaskSpec
from liteflow import Call
from liteflow.api import LONGEST_WORD

_TARGET: Final = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"

_IN_CODE: Final = (
    "an expression is not allowed in Python code, where its value would become code; write "
    "`from liteflow import current_context` and take current_context().params[…] or .secrets[…], "
    "or use `call` with the expression in its `args`"
)
_PICKLING: Final = (
    "In a thread, what inline code defines cannot be pickled: put it into a module and `call` a function of that, "
    "or give the task `mode: process`."
)


class PythonTask(TaskType):
    name = "python"
    schema: ClassVar[Mapping[str, Any]] = {
        "description": "Runs Python code, or calls a Python function.",
        "properties": {
            "run": {
                **lines("Python code, or a list of its lines. It returns nothing; print goes to the log."),
                "examples": ["import this\n"],
                "x-expects": "Python code (text), or a list of lines",
                "x-aliases": ["script"],
                "x-expressions": "none",
                "x-refusal": _IN_CODE,
            },
            "call": {
                "description": "The function to call; its return value is the task's value. The folder of the workflow "
                "file and the current folder are on the module path while it is imported.",
                "type": "string",
                "pattern": _TARGET,
                "examples": ["my_module:my_function"],
                "x-expects": 'a function such as "package.module:function"',
                "x-expressions": "none",
            },
            "args": {
                "description": "Arguments of `call`: a mapping by name, or a list by position.",
                "type": ["object", "array"],
                "examples": [{"path": "data.csv"}, ["data.csv", 3]],
                "x-expects": "a mapping of arguments by name, or a list of them",
            },
            "file": {
                "description": "The Python file to run, relative to the workflow file, as a program of its own.",
                "type": "string",
                "minLength": 1,
                "examples": ["clean.py"],
                "x-expressions": "none",
            },
            "environment": {
                "description": "The Python environment in which the task runs, as a program of its own; `uv` builds it "
                "once and tasks share it. `script`: the block `# /// script` of the code has its dependencies.",
                "type": ["object", "string"],
                "pattern": "^script$",
                "properties": {
                    "python": {
                        "description": "The version of Python. The default is the one that runs the workflow.",
                        "type": "string",
                        "minLength": 1,
                        "examples": [">=3.12"],
                    },
                    "packages": {
                        "description": "The packages, as pip takes them.",
                        "type": "array",
                        "items": {"type": "string", "minLength": 1},
                        "examples": [["polars==1.*"]],
                    },
                    "lock": {
                        "description": "A file with exact versions, relative to the workflow file, which is installed "
                        "as it is: the output of `uv pip compile`.",
                        "type": "string",
                        "minLength": 1,
                    },
                },
                "additionalProperties": False,
                "examples": [{"python": ">=3.12", "packages": ["polars==1.*"]}, "script"],
                "x-expects": "`script`, or a mapping with `python`, `packages` and `lock`",
                "x-expressions": "none",
            },
            "container": CONTAINER,
        },
        "oneOf": [{"required": ["run"]}, {"required": ["call"]}, {"required": ["file"]}],
        "dependentRequired": {"args": ["call"]},
        "x-message": 'needs exactly one of "run" (Python code), "call" (a function) and "file" (a Python file)',
    }

    def check(self, config: Mapping[str, Any]) -> Iterable[ConfigProblem]:
        if "container" in config and (other := next((key for key in ("environment", "file") if key in config), "")):
            yield ConfigProblem(other, "the image of a container has its own Python: write the code under `run`")
        if "container" in config and "call" in config:
            message = "a function cannot run in a container, where its module is not: write the code under `run`"
            yield ConfigProblem("container", message)
        yield from container_problems(config.get("container"), "container.")
        if config.get("environment") == "script" and "call" in config:
            message = "a function has no block `# /// script`: name its `packages`"
            yield ConfigProblem("environment", message)
        code = config.get("run")
        if not isinstance(code, str) or not code.strip() or "${{" in code:
            return  # the parser reports an expression in it
        if re.fullmatch(r"[\w./~-]+\.py", code.strip()):
            yield ConfigProblem("run", f"is the name of a file and no code: write `file: {code.strip()}`")
        if config.get("environment") == "script":
            yield from _block_problems(code)
        if ("environment" in config or "container" in config) and len(code.encode()) >= LONGEST_WORD:
            size = f"code of {LONGEST_WORD // 1024} KiB and more"
            yield ConfigProblem(
                "run", f"{size} cannot be given to a program: write it into a file that the code imports"
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compile(code, "<run>", "exec")
        except SyntaxError as error:
            yield ConfigProblem("run", f"not valid Python: {error.msg}", error.lineno or 0, error.offset or 0)
        except ValueError as error:
            yield ConfigProblem("run", f"not valid Python: {error}")
        except (MemoryError, RecursionError):
            yield ConfigProblem("run", "not valid Python: too deeply nested")

    def completed(
        self, config: dict[str, Any], *, workflow_shell: Any, is_branch: bool, container_engine: str | None
    ) -> dict[str, Any]:
        if "container" in config and container_engine is not None:
            config["container"] = {"engine": container_engine, **config["container"]}
        return config

    def needed_modules(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        if "environment" not in config:
            return ()
        import shutil  # few tasks have an environment

        return () if shutil.which("uv") else ("uv",)

    def hints(self, config: Mapping[str, Any]) -> Iterable[ConfigProblem]:
        if isinstance(config.get("container"), dict):
            yield from image_hints(config["container"], "container")
        environment = config.get("environment")
        if not isinstance(environment, dict) or "lock" in environment:
            return
        for package in environment.get("packages", ()):
            if not any(sign in package for sign in ("==", "===", " @ ")):
                message = f"{package} has no exact version, so the environment depends on the day on which it is built"
                yield ConfigProblem("environment", message)

    def build(self, task: TaskSpec) -> Call:
        cwd, folder = absolute(task.cwd), os.path.dirname(task.file)
        if "container" in task.config:
            from lightflow.plugins.container_task import container_call, with_program

            words = ("python3", "-c", task.config["run"])
            return container_call(task, *with_program(task.config["container"], words))
        if "environment" in task.config or "file" in task.config:
            from lightflow.plugins.environment_task import environment_call

            return environment_call(task)
        if "call" in task.config:
            kwargs = {"target": task.config["call"], "args": task.config.get("args", {}), "folder": folder}
            kwargs["start"] = os.getcwd()
            return Call(run_call, kwargs, cwd, task.env)
        name = f"<{os.path.basename(task.file)}:{task.id}>"
        kwargs = {"code": task.config["run"], "name": name, "first_line": task.lines.get("run", 1)}
        return Call(run_inline, {**kwargs, "file": os.path.abspath(task.file)}, cwd, task.env)


def _block_problems(code: str) -> Iterator[ConfigProblem]:
    """Report code without a valid block of dependencies."""
    from lightflow.plugins.python_environment import NO_BLOCK, script_block  # few tasks have a block

    try:
        if script_block(code) is None:
            yield ConfigProblem("environment", NO_BLOCK)
    except ValueError as error:
        yield ConfigProblem("run", str(error))


def run_inline(code: str, name: str, first_line: int = 1, file: str | None = None) -> None:
    """Run the code of a task, which begins on `first_line` of `file`."""
    import linecache  # imports tokenize

    lines = _ShiftedLines(code.splitlines(True), first_line - 1)
    # Traces name the file. The entry stays: a traceback is written later, and instances of a mapped task share it.
    linecache.cache[name] = (len(code), None, lines, file or name)
    program = _compile(code, name, first_line - 1)
    module = types.ModuleType("__main__")
    alone = threading.current_thread() is threading.main_thread()
    before = sys.modules.get("__main__")
    if alone:
        sys.modules["__main__"] = module
    try:
        with unpickling_from(os.path.dirname(file or ""), os.getcwd()):
            exec(program, module.__dict__)
    except Exception as error:  # the code of the task; it is raised again
        import pickle  # only for errors

        if isinstance(error, pickle.PicklingError) and not alone:
            error.args = (f"{error}. {_PICKLING}",)
        raise
    finally:
        if alone and before is not None:
            sys.modules["__main__"] = before


def run_call(target: str, args: Mapping[str, Any] | Sequence[Any], folder: str, start: str = "") -> Any:
    """Import `module:function` and call it; the engine runs a coroutine to its end.

    The module is in the folder of the workflow file, in the current one, or in the one that was current when the run
    began (`start`): in a thread, another task may have changed it.
    """
    module_name, _, attribute = target.partition(":")
    folders = (folder, os.getcwd(), start or folder)
    function: Any = import_from_folders(module_name, *folders)
    for part in attribute.split("."):
        function = getattr(function, part)
    with unpickling_from(*folders):
        value = function(**args) if isinstance(args, Mapping) else function(*args)
    return _awaited(value, folders) if isinstance(value, Coroutine) else value


async def _awaited(coroutine: Coroutine[Any, Any, Any], folders: tuple[str, ...]) -> Any:
    with unpickling_from(*folders):
        return await coroutine


def _compile(code: str, name: str, shift: int) -> CodeType:
    """Compile with line numbers moved down by `shift`."""
    try:
        program = compile(code, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        error.lineno = (error.lineno or 1) + shift
        raise
    return _shifted(program, shift) if shift else program


def _shifted(program: CodeType, shift: int) -> CodeType:
    """Return code with other line numbers: line tables are relative to the first line of each code object."""
    constants = tuple(
        _shifted(constant, shift) if isinstance(constant, CodeType) else constant for constant in program.co_consts
    )
    return program.replace(co_firstlineno=program.co_firstlineno + shift, co_consts=constants)


class _ShiftedLines(list[str]):
    """Source lines whose numbers begin after `shift`, without as many empty lines in memory."""

    def __init__(self, lines: list[str], shift: int) -> None:
        super().__init__(lines)
        self.shift = shift

    def __len__(self) -> int:
        return super().__len__() + self.shift

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = index.__index__() - self.shift
        return super().__getitem__(number) if number >= 0 else "\n"
