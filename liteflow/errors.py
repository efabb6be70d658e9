"""Every error the engine raises on purpose.

LiteflowError
├── DefinitionError            the graph or a task is wrong; nothing ran          exit 2
│   ├── CycleError             also a graphlib.CycleError; `.path`
│   ├── DuplicateTask          also a ValueError
│   ├── UnknownDependency      also a ValueError
│   ├── ParamError             parameters of a run; `.problems`
│   └── ScriptError            a Python file that should define dags; `.path`, `.line`, `.problem`
├── RunFailed                  from DagRun.raise_for_failure(); `.failures`       exit 1
├── PayloadError               a value cannot be stored, or read back
├── InputError                 what an attempt takes cannot be worked out
├── StoreError                 the state file                                     exit 3
│   ├── NotOurs                some other program's database, or no database
│   ├── SchemaTooNew           written by a newer version
│   ├── CorruptDatabase        SQLite cannot read it
│   ├── RunNotFound            no such run, or no such dag
│   └── StaleRun               another process has taken this run over            exit 4
├── RunOwned                   a live process owns this run                       exit 4
│   └── GroupBusy              its group of runs is full, and it shall not wait   exit 4
├── RunSkipped                 its group of runs is full, and it shall be skipped exit 0
└── ResourceError              disk full, no more files or processes              exit 5

`SkipTask` is not an error: a task raises it to end as SKIPPED.
Every message says what, where and what to do; it needs no traceback.
"""

from __future__ import annotations

import graphlib
from collections.abc import Mapping, Sequence


class LiteflowError(Exception):
    """The root of the tree. `exit_code` is what a command line ends with."""

    exit_code = 70


class DefinitionError(LiteflowError):
    exit_code = 2


class CycleError(DefinitionError, graphlib.CycleError):
    """Tasks wait for each other. `path` is a shortest such circle: its first id stands again at its end."""

    def __init__(self, path: Sequence[str]) -> None:
        self.path = list(path)
        super().__init__(_cycle_message(self.path), self.path)

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[type[CycleError], tuple[list[str]]]:
        return type(self), (self.path,)  # by default `args` would be given back to __init__, which takes others


def _cycle_message(path: Sequence[str]) -> str:
    names = [repr(name) for name in path]
    if len(names) > 11:
        names = [*names[:6], f"… {len(names) - 11} more …", *names[-5:]]
    return f"tasks depend on each other in a cycle: {' -> '.join(names)}"


class DuplicateTask(DefinitionError, ValueError):
    pass


class UnknownDependency(DefinitionError, ValueError):
    pass


class ScriptError(DefinitionError):
    """A Python file that cannot be used; `line` 0 means all of it."""

    def __init__(self, path: str, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}" if line else f"{path}: {problem}")
        self.path, self.line, self.problem = path, line, problem

    def __reduce__(self) -> tuple[type[ScriptError], tuple[str, int, str]]:
        return type(self), (self.path, self.line, self.problem)


class ParamError(DefinitionError, ValueError):
    """Parameters that cannot be used. `problems` maps each name to what is wrong with it."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"parameter {name!r}: {why}" for name, why in problems.items()))
        self.problems = dict(problems)

    def __reduce__(self) -> tuple[type[ParamError], tuple[dict[str, str]]]:
        return type(self), (self.problems,)


class RunFailed(LiteflowError):
    """A run ended without success. `failures` maps each failed task to its one-line reason."""

    exit_code = 1

    def __init__(self, message: str, failures: Mapping[str, str]) -> None:
        super().__init__(message)
        self.failures = dict(failures)

    def __reduce__(self) -> tuple[type[RunFailed], tuple[str, dict[str, str]]]:
        return type(self), (str(self), self.failures)


class PayloadError(LiteflowError):
    exit_code = 1


class InputError(LiteflowError):
    """An attempt cannot start: what it takes from elsewhere is missing. The message is told as it stands."""

    exit_code = 1


class StoreError(LiteflowError):
    exit_code = 3


class NotOurs(StoreError):
    pass


class SchemaTooNew(StoreError):
    pass


class CorruptDatabase(StoreError):
    pass


class RunNotFound(StoreError):
    pass


class StaleRun(StoreError):
    exit_code = 4


class RunOwned(LiteflowError):
    exit_code = 4


class OwnerDied(RunOwned):
    """The owner is dead, but what it has started is still being ended: in a moment the run can be had."""


class GroupBusy(RunOwned):
    """There is no place in the run's group, and `on_conflict` is "fail". Nothing ran, nothing was stored."""


class RunSkipped(LiteflowError):
    """There is no place in the run's group, and `on_conflict` is "skip". `Dag.run` returns such a run as SKIPPED."""

    exit_code = 0


class ResourceError(LiteflowError):
    exit_code = 5


class SkipTask(Exception):
    """Raise it in a task to end the task as SKIPPED; the message becomes the reason."""
