"""The errors of the engine.

LiteflowError
├── DefinitionError            the graph or a task is invalid; nothing ran        exit 2
│   ├── CycleError             also a graphlib.CycleError; `.path`
│   ├── DuplicateTask          also a ValueError
│   ├── UnknownDependency      also a ValueError
│   ├── ParamError             parameters of a run; `.problems`
│   ├── SecretError            secrets of a run; `.problems`
│   ├── DotenvError            a dotenv file; `.problems`
│   └── ScriptError            a Python file with dags; `.path`, `.line`, `.problem`
├── RunFailed                  from DagRun.raise_for_failure(); `.failures`       exit 1
├── PayloadError               a value cannot be stored or read
├── InputError                 the input of an attempt is missing
├── StoreError                 the state file cannot be read or written           exit 3
│   ├── NoStateFile            there is none; `.path`, `.hint`
│   ├── ForeignDatabase        a database of another program, or not a database
│   ├── SchemaTooNew           written by a newer version
│   ├── CorruptDatabase        damaged
│   ├── RunNotFound            no such run, or no such dag
│   └── StaleRun               another process has taken over the run             exit 4
├── RunOwned                   a live process owns the run                        exit 4
│   └── GroupBusy              its group is full, and the run must not wait       exit 4
├── AlreadyDecided             a task that waited for a decision has one          exit 4
├── RunSkipped                 its group is full, and the run is skipped          exit 0
└── ResourceError              disk full, no more files or processes              exit 5

`SkipTask` is not an error: a task raises it to end as SKIPPED. A task raises `TaskFailed` to fail with codes.
Every message says what happened, where, and what to do; it needs no traceback.
"""

from __future__ import annotations

import graphlib
from collections.abc import Mapping, Sequence


class LiteflowError(Exception):
    """The base class of all errors. `exit_code` is the exit code of a command that ends with the error."""

    exit_code = 70


class DefinitionError(LiteflowError):
    exit_code = 2


class CycleError(DefinitionError, graphlib.CycleError):
    """Dependencies form a cycle. `path` is a shortest cycle; its last id is its first id."""

    def __init__(self, path: Sequence[str]) -> None:
        self.path = list(path)
        super().__init__(_cycle_message(self.path), self.path)

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[type[CycleError], tuple[list[str]]]:
        return type(self), (self.path,)  # by default pickle would pass `args`, which __init__ does not accept


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
    """A Python file is invalid; `line` 0 means the whole file."""

    def __init__(self, path: str, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}" if line else f"{path}: {problem}")
        self.path, self.line, self.problem = path, line, problem

    def __reduce__(self) -> tuple[type[ScriptError], tuple[str, int, str]]:
        return type(self), (self.path, self.line, self.problem)


class ParamError(DefinitionError, ValueError):
    """Parameters are invalid. `problems` maps each name to the mistake."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"parameter {name!r}: {why}" for name, why in problems.items()))
        self.problems = dict(problems)

    def __reduce__(self) -> tuple[type[ParamError], tuple[dict[str, str]]]:
        return type(self), (self.problems,)


class SecretError(DefinitionError, ValueError):
    """Secrets cannot be read. `problems` maps each name to the cause; no value is shown."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"secret {name!r}: {why}" for name, why in problems.items()))
        self.problems = dict(problems)

    def __reduce__(self) -> tuple[type[SecretError], tuple[dict[str, str]]]:
        return type(self), (self.problems,)


class DotenvError(DefinitionError, ValueError):
    """A dotenv file is invalid. `problems` are pairs of a line and a mistake; line 0 means the whole file."""

    def __init__(self, path: str, problems: Sequence[tuple[int, str]]) -> None:
        super().__init__("; ".join(f"{path}:{line}: {why}" if line else f"{path}: {why}" for line, why in problems))
        self.path, self.problems = path, list(problems)

    def __reduce__(self) -> tuple[type[DotenvError], tuple[str, list[tuple[int, str]]]]:
        return type(self), (self.path, self.problems)


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
    """An attempt cannot start because its input is missing. The message becomes the error of the task."""

    exit_code = 1


class StoreError(LiteflowError):
    exit_code = 3


class NoStateFile(StoreError):
    """There is no file at `path`. Nothing creates it but a run, or a change."""

    def __init__(self, path: str, hint: str) -> None:
        super().__init__(f"{path}: no such state file; {hint}")
        self.path, self.hint = path, hint

    def __reduce__(self) -> tuple[type[NoStateFile], tuple[str, str]]:
        return type(self), (self.path, self.hint)


class ForeignDatabase(StoreError):
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
    """The owner is dead, and its processes are being ended: the run can be resumed in a moment.

    Attributes:
        lease_s: for how many seconds processes on its clusters may still live; 0: there are none.
    """

    def __init__(self, message: str, lease_s: float = 0.0) -> None:
        super().__init__(message)
        self.lease_s = lease_s


class GroupBusy(RunOwned):
    """The group of the run is full, and `on_conflict` is "fail". Nothing ran, nothing was stored."""


class AlreadyDecided(LiteflowError):
    """A task that waited for a decision has one, or its time is over."""

    exit_code = 4


class RunSkipped(LiteflowError):
    """The group of the run is full, and `on_conflict` is "skip". `Dag.run` returns the run as SKIPPED."""

    exit_code = 0


class ResourceError(LiteflowError):
    exit_code = 5


class SkipTask(Exception):
    """Raise it in a task to end the task as SKIPPED; the message becomes the reason."""


class TaskFailed(Exception):
    """Raise it in a task to fail the attempt with a message for people and codes for `retry`.

    `codes` are words such as "http:503". `retry_after_s` is the least wait before the next attempt. A `final` failure
    is not tried again, unless `retry` names one of its codes. `exit_code` is that of a program that the task ran.
    """

    def __init__(
        self,
        message: str,
        *,
        codes: Sequence[str] = (),
        retry_after_s: float | None = None,
        final: bool = False,
        exit_code: int | None = None,
    ) -> None:
        super().__init__(message)
        self.codes, self.retry_after_s, self.final, self.exit_code = tuple(codes), retry_after_s, final, exit_code

    def __reduce__(self) -> tuple[object, ...]:
        state = {
            "codes": self.codes,
            "retry_after_s": self.retry_after_s,
            "final": self.final,
            "exit_code": self.exit_code,
        }
        return type(self), self.args, state
